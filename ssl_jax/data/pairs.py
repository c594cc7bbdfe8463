"""Image files with captions, listed in a table: `pairs:/path`."""

import csv
import io
import json
import os
import pathlib
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

from ssl_jax.data import files, folder
from ssl_jax.data.field import Text, image_fields
from ssl_jax.data.reading import WHOLE, Reading
from ssl_jax.data.survey import Survey
from ssl_jax.errors import UserError

SUFFIXES = (".csv", ".jsonl")
NAMED = 3  # broken rows that a warning names


class Row(NamedTuple):
    """One image with captions."""

    image: str  # path, relative to the table
    captions: tuple[str, ...]
    label: str  # class name; empty: unknown


class PairSource:
    """Image files with captions.

    Args:
        name: the name of the source in messages.
        root: the folder that paths are relative to.
        captions: the captions of each file, by its path.
        labels: of the files; -1 if unknown.
        classes: the names of the labels; None without labels.
        context: tokens of a caption; None: captions are left out.
        reading: how images are read.

    Raises:
        UserError: if no file can be read.
    """

    def __init__(
        self,
        name: str,
        root: str,
        captions: dict[str, tuple[str, ...]],
        labels: list[int],
        classes: tuple[str, ...] | None,
        context: int | None,
        reading: Reading = WHOLE,
    ):
        names = list(captions)
        known = len(names) <= folder.CHECKED
        sizes = [files.patiently(os.path.getsize, os.path.join(root, file)) if known else 0 for file in names]
        self.images = folder.FolderSource(name, root, names, sizes, labels, classes, reading=reading)
        self.captions, self.name, self.classes = captions, name, classes
        text = None if context is None else Text(max(map(len, captions.values())), context)
        self.fields = image_fields(text=text)

    @property
    def files(self) -> list[str]:
        return self.images.files

    @property
    def labels(self) -> list[int]:
        return self.images.labels

    version = None

    @property
    def survey(self) -> Survey:
        return self.images.survey

    @property
    def listing(self) -> list[tuple[str, int]]:
        return self.images.listing

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> dict[str, Any]:
        j, example = self.images.readable(i)
        return example | {"text": self.captions[self.images.names[j]]} if "text" in self.fields else example


def open_pairs(
    path: str, split: str, fields: Collection[str] = (), context: int = 77, reading: Reading = WHOLE
) -> PairSource | None:
    """Opens a table of image files and captions.

    A table is a file in one of two formats. Paths of images are relative to its folder.
        csv: a header with the columns `image`, `caption` and, if there are classes, `label`; a further caption of an
            image is a further row.
        jsonl: an object a line, `{"image": "a.jpg", "captions": ["one", "another"], "label": "cat"}`, where the label
            may be left out.

    A row that cannot be used is left out; a warning counts these rows and names the first.

    Args:
        path: a folder with `train.csv` or `train.jsonl` and, if there is a test split, `test.csv` or `test.jsonl`; or a
            table, which has the training split alone.
        split: "train" or "test".
        fields: ("text",) adds the captions.
        context: tokens of a caption.
        reading: how images are read.

    Returns:
        The source, or None if there is no test split.

    Raises:
        UserError: if there is no table, it lacks a column, no row can be used, or the test split has another class.
    """
    root = pathlib.Path(path).expanduser()
    table = find_table(root, split)
    if table is None and split == "test":
        return None
    if table is None:
        raise UserError(
            f"there is no table {str(root)!r}, nor train.csv or train.jsonl in it; name one, as in pairs:/photos"
        )
    rows = usable_rows(table)
    training = rows if split == "train" else usable_rows(find_table(root, "train"), warn=False)
    classes = tuple(sorted({row.label for row in training if row.label}))
    if unknown := sorted({row.label for row in rows if row.label} - set(classes)):
        raise UserError(f"{table} has classes that the training split lacks: {', '.join(unknown[:5])}")
    number = {name: i for i, name in enumerate(classes)}
    captions: dict[str, tuple[str, ...]] = {}
    labels: dict[str, int] = {}
    for row in rows:
        file = str(pathlib.PurePath(row.image))
        captions[file] = captions.get(file, ()) + row.captions
        labels[file] = max(labels.get(file, -1), number.get(row.label, -1))
    known = classes if max(labels.values()) >= 0 else None
    wanted = context if "text" in fields else None
    return PairSource(f"pairs:{root}", str(table.parent), captions, list(labels.values()), known, wanted, reading)


def find_table(root: pathlib.Path, split: str) -> pathlib.Path | None:
    """Returns the table of a split, or None if there is none."""
    if root.is_file():
        return root if split == "train" and root.suffix in SUFFIXES else None
    files = [root / f"{split}{suffix}" for suffix in SUFFIXES]
    return next((file for file in files if file.is_file()), None)


def usable_rows(table: pathlib.Path, warn: bool = True) -> list[Row]:
    """Returns the rows of a table that can be used, and warns of the others.

    Raises:
        UserError: if none can be used.
    """
    lines = io.StringIO(files.content(str(table)).decode("utf-8-sig", "replace"), newline="")
    rows = list((csv_rows if table.suffix == ".csv" else json_rows)(lines, table))
    present = files.is_file if len(rows) <= folder.CHECKED else lambda file: True
    good: list[Row] = []
    broken: list[str] = []
    for line, row in rows:
        complaint = row if isinstance(row, str) else fault(row, table.parent, present)
        if complaint or isinstance(row, str):
            broken.append(f"line {line} ({complaint})")
        else:
            good.append(row)
    names = ", ".join(broken[:NAMED]) + (", ..." if len(broken) > NAMED else "")
    if not good:
        raise UserError(f"none of the {len(rows)} rows of {table} can be used{': ' if names else ''}{names}")
    if broken and warn:
        warnings.warn(f"{table}: {len(broken)} of {len(rows)} rows are broken and left out: {names}", stacklevel=2)
    return good


def fault(row: Row, folder: pathlib.Path, present: Callable[[str], bool]) -> str:
    """Returns what is wrong with a row; empty if nothing is."""
    if not row.image:
        return "it names no image"
    if not row.captions or not all(caption.strip() for caption in row.captions):
        return "a caption is empty" if row.captions else "it has no caption"
    return "" if present(os.path.join(folder, row.image)) else f"there is no image {row.image!r}"


Parsed = Iterator[tuple[int, Row | str]]  # the number of a line, and its row or what is wrong with it


def csv_rows(lines: Iterable[str], table: pathlib.Path) -> Parsed:
    """Reads a table of the format csv."""
    reader = csv.DictReader(lines)
    if missing := {"image", "caption"} - set(reader.fieldnames or ()):
        raise UserError(
            f"{table} has no column {' and no column '.join(sorted(missing))}; its first line must name the columns "
            "image, caption and, if there are classes, label"
        )
    for values in reader:
        if values["image"] is None or values["caption"] is None or None in values:
            yield reader.line_num, "it has more or fewer columns than the first line"
        else:
            yield reader.line_num, Row(values["image"], (values["caption"],), values.get("label") or "")


def json_rows(lines: Iterable[str], table: pathlib.Path) -> Parsed:
    """Reads a table of the format jsonl."""
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
        except ValueError:
            yield number, "it is no JSON"
            continue
        texts = isinstance(values, dict) and values.get("captions")
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            yield number, "it is no object with a list of texts, captions"
        else:
            yield number, Row(str(values.get("image") or ""), tuple(texts), str(values.get("label", "")))
