"""Image files with captions, listed in a table: `pairs:/path`."""

import csv
import os
import pathlib
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from ssl_jax.data import files, folder
from ssl_jax.data.annotated import AnnotatedSource, find_table, json_objects, text_of, usable
from ssl_jax.data.field import Text
from ssl_jax.data.reading import WHOLE, Reading
from ssl_jax.errors import UserError

SUFFIXES = (".csv", ".jsonl")


class Row(NamedTuple):
    """One image with captions."""

    image: str  # path, relative to the table
    captions: tuple[str, ...]
    label: str  # class name; empty: unknown


def open_pairs(
    path: str, split: str, fields: Collection[str] = (), context: int = 77, reading: Reading = WHOLE
) -> AnnotatedSource | None:
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
    table = find_table(root, split, SUFFIXES)
    if table is None and split == "test":
        return None
    if table is None:
        raise UserError(
            f"there is no table {str(root)!r}, nor train.csv or train.jsonl in it; name one, as in pairs:/photos"
        )
    rows = usable_rows(table)
    training = rows if split == "train" else usable_rows(find_table(root, "train", SUFFIXES), warn=False)
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
    text = {"text": Text(max(map(len, captions.values())), context)} if "text" in fields else {}
    values = dict.fromkeys(text, captions.__getitem__)
    numbers = list(labels.values())
    return AnnotatedSource(f"pairs:{root}", str(table.parent), list(captions), text, values, numbers, known, reading)


def usable_rows(table: pathlib.Path, warn: bool = True) -> list[Row]:
    """Returns the rows of a table that can be used, and warns of the others.

    Raises:
        UserError: if none can be used.
    """
    rows = list((csv_rows if table.suffix == ".csv" else json_rows)(table))
    present = files.is_file if len(rows) <= folder.CHECKED else lambda file: True
    checked = ((row if isinstance(row, str) else fault(row, table.parent, present) or row) for _, row in rows)
    return usable(table, zip((f"line {line}" for line, _ in rows), checked, strict=True), warn=warn)


def fault(row: Row, folder: pathlib.Path, present: Callable[[str], bool]) -> str:
    """Returns what is wrong with a row; empty if nothing is."""
    if not row.image:
        return "it names no image"
    if not row.captions or not all(caption.strip() for caption in row.captions):
        return "a caption is empty" if row.captions else "it has no caption"
    return "" if present(os.path.join(folder, row.image)) else f"there is no image {row.image!r}"


Parsed = Iterator[tuple[int, Row | str]]  # the number of a line, and its row or what is wrong with it


def csv_rows(table: pathlib.Path) -> Parsed:
    """Reads a table of the format csv."""
    reader = csv.DictReader(text_of(table))
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


def json_rows(table: pathlib.Path) -> Parsed:
    """Reads a table of the format jsonl."""
    for number, values in json_objects(table):
        texts = None if isinstance(values, str) else values.get("captions")
        if isinstance(values, str):
            yield number, values
        elif not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            yield number, "it is no object with a list of texts, captions"
        else:
            yield number, Row(str(values.get("image") or ""), tuple(texts), str(values.get("label", "")))
