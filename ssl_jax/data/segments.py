"""Image files with a mask each, which says the class of every pixel: `segments:/path`."""

import io
import os
import pathlib
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

from ssl_jax.data import files
from ssl_jax.data.annotated import AnnotatedSource, usable
from ssl_jax.data.decoding import UnreadableError, attempt, explained, header_of
from ssl_jax.data.field import UNKNOWN, Segments
from ssl_jax.data.image import opened
from ssl_jax.data.layout import below, find_layout
from ssl_jax.data.reading import WHOLE, Reading
from ssl_jax.errors import UserError

IMAGES, MASKS = f"images{os.sep}", f"masks{os.sep}"
NAMES = "classes.txt"


class Pair(NamedTuple):
    """An image and its mask, relative to the folder of the split."""

    image: str
    mask: str
    largest: int  # number of a class in the mask; -1: there is none


class Masks:
    """A function from the name of an image to its mask, uint8 [height, width], of the same size."""

    def __init__(self, root: str, pairs: Collection[Pair]):
        self.paths = {pair.image: os.path.join(root, pair.mask) for pair in pairs}

    def __call__(self, image: str) -> np.ndarray:
        return read_mask(self.paths[image])


def open_segments(
    path: str, split: str, fields: Collection[str] = (), reading: Reading = WHOLE
) -> AnnotatedSource | None:
    """Opens a folder of images and masks, `/path/{train,test}/{images,masks}/`.

    An image and its mask have the same name, but for the suffix, and the same size. A mask is a grey or palette image
    of 8 bits: the number of a class, or 255 where a pixel does not count. `/path/classes.txt` may name the classes, one
    a line, from number 0 on. Without it there are as many as the largest number in a mask of any split says.

    An image that cannot be used is left out; a warning counts these and names the first.

    Args:
        path: the folder; without `train`, all of it is the training split.
        split: "train" or "test".
        fields: ("segments",) adds the masks; images have no labels.
        reading: how images are read.

    Returns:
        The source, or None if there is no test split.

    Raises:
        UserError: if the folder does not exist, or no image can be used.
    """
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        raise UserError(
            f"there is no folder {str(root)!r}; set data.source=segments:/path to a folder of images and masks"
        )
    found = files.scan(root)
    layout = find_layout(found.names, found.folders)
    prefixes = {"train": layout.train} | ({"test": layout.test} if layout.test is not None else {})
    if split not in prefixes:
        return None
    given = class_names(root)
    pairs = {
        name: usable(
            root / prefix, look(below(found.names, prefix), root / prefix, given, reading), "image", name == split
        )
        for name, prefix in prefixes.items()
    }
    count = 1 + max(pair.largest for some in pairs.values() for pair in some)
    place = str(root / prefixes[split])
    field = {"segments": Segments(given or tuple(map(str, range(count))))} if "segments" in fields else {}
    values = dict.fromkeys(field, Masks(place, pairs[split]))
    names = [pair.image for pair in pairs[split]]
    return AnnotatedSource(f"segments:{root}", place, names, field, values, reading=reading)


def class_names(root: pathlib.Path) -> tuple[str, ...]:
    """Returns the names of the classes; empty if they have none."""
    if not files.is_file(str(root / NAMES)):
        return ()
    lines = files.content(str(root / NAMES)).decode("utf-8-sig", "replace").strip().splitlines()
    return tuple(line.strip() for line in lines[:UNKNOWN])


def look(
    names: Collection[str], folder: pathlib.Path, classes: tuple[str, ...], reading: Reading
) -> Iterator[tuple[str, Pair | str]]:
    """Yields the image files of a split, and for each its pair, or what is wrong with it.

    Raises:
        UserError: if there are none.
    """
    images, masks = (
        {os.path.splitext(name)[0]: part + name for name in below(names, part)} for part in (IMAGES, MASKS)
    )
    if not images or not masks:
        raise UserError(f"there are no images in {folder / IMAGES} or no masks in {folder / MASKS}")
    stems = sorted(images | masks)

    def check(i: int) -> Pair | str:
        image, mask = (some.get(stems[i]) for some in (images, masks))
        if image is None or mask is None:
            return "it has no image" if image is None else "it has no mask"
        size, classed = header_of(str(folder / image), reading), read_mask(str(folder / mask))
        if size != classed.shape[::-1]:
            return "its mask has {1} x {0} pixels, not {2} x {3}".format(*classed.shape, *size)
        largest = int(np.max(classed, where=classed != UNKNOWN, initial=0)) if np.any(classed != UNKNOWN) else -1
        if classes and largest >= len(classes):
            return f"its mask has the class {largest}, but {NAMES} names {len(classes)}"
        return Pair(image, mask, largest)

    pairs = attempt(check, range(len(stems)), f"looking at the masks of {folder}")
    for stem, pair in zip(stems, pairs, strict=True):
        yield images.get(stem) or masks[stem], str(pair) if isinstance(pair, UnreadableError) else pair


def read_mask(path: str) -> np.ndarray:
    """Returns the number of the class of each pixel, uint8 [height, width].

    Raises:
        UnreadableError: if it is no mask.
    """
    content = files.content(path)
    with explained(WHOLE), opened(io.BytesIO(content), None) as file:
        if file.mode not in ("1", "L", "P") or file.format == "JPEG":
            raise ValueError(f"its mask is a {file.format} of mode {file.mode}, not a grey png")
        return np.asarray(file).astype(np.uint8)
