"""Image files with annotations, those of which cannot be used are left out, counted and named."""

import io
import json
import os
import pathlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ssl_jax.data import files, folder
from ssl_jax.data.field import Field, image_fields
from ssl_jax.data.reading import WHOLE, Reading
from ssl_jax.data.survey import Survey
from ssl_jax.errors import UserError
from ssl_jax.words import number_of

NAMED = 3  # of what is left out, in a warning

Row = TypeVar("Row")


class AnnotatedSource:
    """Image files with further fields of each.

    Args:
        name: the name of the source in messages.
        root: the folder that paths are relative to.
        names: of the files, relative to it.
        fields: what examples have beside `image` and `label`.
        values: for each of these fields a function from the name of a file to the value.
        labels: of the files, -1 if unknown; None: all are.
        classes: the names of the labels; None without labels.
        reading: how images are read.

    Raises:
        UserError: if no file can be read.
    """

    version = None

    def __init__(
        self,
        name: str,
        root: str,
        names: Sequence[str],
        fields: Mapping[str, Field],
        values: Mapping[str, Callable[[str], Any]],
        labels: Sequence[int] | None = None,
        classes: tuple[str, ...] | None = None,
        reading: Reading = WHOLE,
    ):
        known = len(names) <= folder.CHECKED
        sizes = [files.patiently(os.path.getsize, os.path.join(root, file)) if known else 0 for file in names]
        labels = [-1] * len(names) if labels is None else labels
        self.images = folder.FolderSource(name, root, names, sizes, labels, classes, reading=reading)
        self.name, self.classes, self.values = name, classes, values
        self.fields = image_fields() | dict(fields)

    @property
    def files(self) -> list[str]:
        return self.images.files

    @property
    def labels(self) -> list[int]:
        return self.images.labels

    @property
    def survey(self) -> Survey:
        return self.images.survey

    @property
    def listing(self) -> list[tuple[str, int]]:
        return self.images.listing

    def decoded(self, i: int) -> dict[str, Any]:
        """Returns the pixels of a file, as `FolderSource.decoded`."""
        return self.images.decoded(i)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> dict[str, Any]:
        j, example = self.images.readable(i)
        return example | {field: value(self.images.names[j]) for field, value in self.values.items()}


def find_table(root: pathlib.Path, split: str, suffixes: Sequence[str]) -> pathlib.Path | None:
    """Returns the table of a split, or None if there is none."""
    if root.is_file():
        return root if split == "train" and root.suffix in suffixes else None
    tables = [root / f"{split}{suffix}" for suffix in suffixes]
    return next((table for table in tables if table.is_file()), None)


def text_of(table: pathlib.Path) -> io.StringIO:
    """Returns the text of a table."""
    return io.StringIO(files.content(str(table)).decode("utf-8-sig", "replace"), newline="")


def json_objects(table: pathlib.Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yields the number of each line of a table of the format jsonl, and its object, or what is wrong with it."""
    for number, line in enumerate(text_of(table), 1):
        try:
            values = json.loads(line)
        except ValueError:
            yield number, "it is no JSON"
        else:
            yield number, values if isinstance(values, dict) else "it is no object"


def usable(place: Any, rows: Iterable[tuple[str, Row | str]], what: str = "row", warn: bool = True) -> list[Row]:
    """Returns the rows that can be used, and warns of the others.

    Args:
        place: where they are.
        rows: the name of each row, and the row, or what is wrong with it.
        what: one of them is, in words.
        warn: whether to warn.

    Raises:
        UserError: if none can be used.
    """
    rows = list(rows)
    good = [row for _, row in rows if not isinstance(row, str)]
    broken = [f"{name} ({row})" for name, row in rows if isinstance(row, str)]
    names = ", ".join(broken[:NAMED]) + (", ..." if len(broken) > NAMED else "")
    if not good:
        raise UserError(f"of {number_of(len(rows), what)} of {place} none can be used{': ' if names else ''}{names}")
    if broken and warn:
        warnings.warn(f"{place}: {len(broken)} of {len(rows)} {what}s are broken and left out: {names}", stacklevel=3)
    return good
