"""Draws sheets of images: augmented views, and the nearest neighbours of test images."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP = 10  # pixels between images
FRAME = 3  # pixels of a coloured frame
SIDE = 84  # pixels that small images are enlarged to, roughly
PAPER, INK, RIGHT, WRONG = "#ffffff", "#333333", "#2e9e5b", "#d1495b"
FONT = ImageFont.load_default(12)
LINE = 18  # pixels, height of a line of text


class Cell(NamedTuple):
    """One image of a sheet, uint8 [H, W, 3], with the text below it and the colour of its frame."""

    image: np.ndarray
    caption: str = ""
    frame: str | None = None


def levels(pixels: np.ndarray) -> np.ndarray:
    """Returns pixels in [0, 1] as uint8."""
    return np.round(255 * np.asarray(pixels)).astype(np.uint8)


def sheet(rows: Sequence[Sequence[np.ndarray]], captions: Sequence[str] = (), scale: int | None = None) -> Image.Image:
    """Lays out rows of images in columns with captions above, such as an original and each of its views.

    Args:
        rows: images, uint8 [H, W, 3], of any sizes.
        captions: the text above each column; empty: no captions.
        scale: integer factor by which images are enlarged; None: one for each column, so that small images are easy to
            see.
    """
    return layout([[Cell(image) for image in row] for row in rows], captions, scale)


def mosaic(patches: np.ndarray, columns: int) -> np.ndarray:
    """Tiles patches [B, V, H, W, 3] in [0, 1] into a grid with white lines between them: [B, H', W', 3]."""
    lines = [(0, 0), (0, 0), (0, 1), (0, 1), (0, 0)]
    patches = np.pad(patches, lines, constant_values=1.0)
    batch, count, height, width, channels = patches.shape
    grid = patches.reshape(batch, count // columns, columns, height, width, channels).swapaxes(2, 3)
    return grid.reshape(batch, count // columns * height, columns * width, channels)[:, :-1, :-1]


def neighbours(
    queries: Sequence[np.ndarray],
    found: Sequence[Sequence[np.ndarray]],
    labels: np.ndarray | None = None,
    found_labels: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    scale: int | None = None,
) -> Image.Image:
    """Lays out each query image and, to its right, the images found nearest to it.

    Args:
        queries: N images, uint8 [H, W, 3], of any sizes.
        found: K images for each of them, nearest first.
        labels: int [N], the classes of the queries; None: unknown, and no image has a coloured frame.
        found_labels: int [N, K], the classes of the found images.
        names: the name of each class; None: classes are shown as numbers.
        scale: integer factor by which images are enlarged; None: as in `sheet`.

    Returns:
        An image in which a green frame marks a neighbour of the query's class and a red one any other.
    """
    rows = []
    for n, query in enumerate(queries):
        if labels is None or found_labels is None:
            rows.append([Cell(query), *map(Cell, found[n])])
            continue
        name = (lambda label: str(label)) if names is None else names.__getitem__
        frames = [RIGHT if label == labels[n] else WRONG for label in found_labels[n]]
        captions = [name(label) for label in found_labels[n]]
        rows.append([Cell(query, name(labels[n])), *map(Cell, found[n], captions, frames)])
    ranks = ["nearest", *(str(k + 1) for k in range(1, len(found[0])))]
    return layout(rows, ["image", *ranks], scale)


def layout(
    rows: Sequence[Sequence[Cell]], heads: Sequence[str], scale: int | None = None, title: str = ""
) -> Image.Image:
    """Draws rows of cells below a title, with a caption above each column, which is as wide as its widest cell.

    Without a scale each column has its own, so that small views can be seen beside a large original.
    """
    columns = range(max(len(heads), *map(len, rows)))
    cells = [[row[column] for row in rows if column < len(row)] for column in columns]
    sides = [max((max(cell.image.shape[:2]) for cell in column), default=SIDE) for column in cells]
    scales = [scale or max(1, round(SIDE / side)) for side in sides]
    texts = [list(heads), *([cell.caption for cell in row] for row in rows)]
    widths = [
        max(
            [scales[column] * cell.image.shape[1] for cell in cells[column]]
            + [math.ceil(FONT.getlength(text[column])) for text in texts if column < len(text)]
        )
        for column in columns
    ]
    heights = [max(times * cell.image.shape[0] for times, cell in zip(scales, row, strict=False)) for row in rows]
    below = [LINE + GAP if any(cell.caption for cell in row) else GAP for row in rows]
    lefts = [GAP, *(GAP + np.cumsum(np.add(widths, GAP))).tolist()]
    captions = GAP // 2 + (LINE if title else 0)
    first = captions + GAP // 2 + (LINE if any(heads) else 0)
    tops = [first, *(first + np.cumsum(np.add(heights, below))).tolist()]

    canvas = Image.new("RGB", (max(lefts[-1], math.ceil(FONT.getlength(title)) + 2 * GAP), tops[-1]), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((GAP, GAP // 2), title, INK, FONT)
    for head, left, width in zip(heads, lefts, widths, strict=False):
        draw.text((left + width / 2, captions), head, INK, FONT, anchor="ma")
    for row, top, height in zip(rows, tops, heights, strict=False):
        for cell, left, width, times in zip(row, lefts, widths, scales, strict=False):
            put(canvas, cell, (left, top, width, height), times)
    return canvas


def put(canvas: Image.Image, cell: Cell, box: tuple[int, int, int, int], scale: int) -> None:
    """Draws a cell in the middle of a box (left, top, width, height), with its caption below the box."""
    left, top, width, height = box
    draw = ImageDraw.Draw(canvas)
    image = Image.fromarray(cell.image).convert("RGB")
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    x, y = left + (width - image.width) // 2, top + (height - image.height) // 2
    if cell.frame:
        edge = (x - FRAME, y - FRAME, x + image.width + FRAME - 1, y + image.height + FRAME - 1)
        draw.rectangle(edge, fill=cell.frame)
    canvas.paste(image, (x, y))
    draw.text((left + width / 2, top + height + FRAME), cell.caption, INK, FONT, anchor="ma")
