"""Image files with boxes, listed in a table: `boxes:/path`."""

import os
import pathlib
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from ssl_jax.data import files
from ssl_jax.data.annotated import AnnotatedSource, find_table, json_objects, usable
from ssl_jax.data.decoding import UnreadableError, attempt, header_of
from ssl_jax.data.field import Boxes
from ssl_jax.data.reading import WHOLE, Reading
from ssl_jax.errors import UserError

SUFFIXES = (".jsonl",)


class Row(NamedTuple):
    """The boxes of one image."""

    image: str  # path, relative to the table
    boxes: np.ndarray  # float [n, 4], (left, top, right, bottom) as shares of the width and the height
    labels: tuple[str, ...]  # class names, one per box


def open_boxes(path: str, split: str, fields: Collection[str] = (), reading: Reading = WHOLE) -> AnnotatedSource | None:
    """Opens a table of image files and the boxes in them.

    A table has an object a line, `{"image": "a.png", "boxes": [[x0, y0, x1, y1], ...], "labels": ["shirt", ...]}`.
    Paths of images are relative to its folder, boxes in pixels from the top left of the image as a viewer shows it;
    what lies beyond the image is cut off. An image without boxes has empty lists.

    A row that cannot be used is left out; a warning counts these rows and names the first.

    Args:
        path: a folder with `train.jsonl` and, if there is a test split, `test.jsonl`; or a table, which has the
            training split alone.
        split: "train" or "test".
        fields: ("boxes",) adds the boxes; images have no labels.
        reading: how images are read.

    Returns:
        The source, or None if there is no test split.

    Raises:
        UserError: if there is no table, no row can be used, no row has a box, or the test split has another class.
    """
    root = pathlib.Path(path).expanduser()
    table, training = (find_table(root, one, SUFFIXES) for one in (split, "train"))
    if training is None:
        raise UserError(f"there is no table {str(root)!r}, nor train.jsonl in it; set data.source=boxes:/path to one")
    if table is None:
        return None
    rows = usable_rows(table, reading)
    classes = class_names(training)
    if not any(row.labels for row in rows):
        raise UserError(f"{table} has no box; name another with --data or data.source")
    if unknown := sorted({label for row in rows for label in row.labels} - set(classes)):
        raise UserError(f"{table} has classes that the training split lacks: {', '.join(unknown[:5])}")
    boxes: dict[str, np.ndarray] = {}
    for row in rows:
        file, label = str(pathlib.PurePath(row.image)), [[classes.index(name)] for name in row.labels]
        own = np.concatenate([row.boxes, np.reshape(label, (-1, 1))], axis=1).astype(np.float32)
        boxes[file] = np.concatenate([boxes[file], own]) if file in boxes else own
    field = {"boxes": Boxes(max(1, *map(len, boxes.values())), classes)} if "boxes" in fields else {}
    values = dict.fromkeys(field, boxes.__getitem__)
    return AnnotatedSource(f"boxes:{root}", str(table.parent), list(boxes), field, values, reading=reading)


def class_names(table: pathlib.Path) -> tuple[str, ...]:
    """Returns the names of all classes in a table, those of broken rows included."""
    rows = [values.get("labels") for _, values in json_objects(table) if isinstance(values, dict)]
    return tuple(sorted({str(label) for labels in rows if isinstance(labels, list) for label in labels}))


def usable_rows(table: pathlib.Path, reading: Reading) -> list[Row]:
    """Returns the rows of a table that can be used, and warns of the others."""
    lines = list(json_objects(table))

    def check(i):
        return row_of(lines[i][1], table.parent, reading)

    rows = attempt(check, range(len(lines)), f"looking at {table}")
    named = zip((f"line {line}" for line, _ in lines), rows, strict=True)
    return usable(table, ((name, str(row) if isinstance(row, UnreadableError) else row) for name, row in named))


def row_of(values: dict[str, Any] | str, folder: pathlib.Path, reading: Reading) -> Row | str:
    """Returns the row of a line of a table, or what is wrong with it.

    Raises:
        UnreadableError: if the header of the image is damaged.
    """
    if isinstance(values, str):
        return values
    image, boxes, labels = (values.get(key) for key in ("image", "boxes", "labels"))
    if not isinstance(image, str) or not image:
        return "it names no image"
    if not (isinstance(boxes, list) and isinstance(labels, list) and len(boxes) == len(labels)):
        return "it has no lists boxes and labels of the same length"
    try:
        corners = np.array(boxes, float).reshape(len(boxes), 4)
    except (ValueError, TypeError):
        return "a box is not four numbers"
    path = os.path.join(folder, image)
    if not files.is_file(path):
        return f"there is no image {image!r}"
    size = np.array(header_of(path, reading) * 2, float)
    corners = np.clip(corners, 0, size)
    for given, (left, top, right, bottom) in zip(boxes, corners, strict=True):
        if not (left < right and top < bottom):  # nor if one is not a number
            return "the box {} holds nothing of its image of {:g} x {:g} pixels".format(given, *size)
    return Row(image, corners / size, tuple(map(str, labels)))
