"""The fields of an example, and how each is stacked into an array of a batch."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ssl_jax.data.tokenizer import tokenize

UNKNOWN = 255  # the class of pixels that do not count


class Field(Protocol):
    """One entry of an example; it becomes a row of the array of that name in a batch."""

    @property
    def dtype(self) -> type: ...

    @property
    def padding(self) -> int:
        """The value that fills rows without an example."""

    def shape(self, canvas: int) -> tuple[int, ...]:
        """Returns the shape of a row for a square canvas whose side is `canvas` pixels."""

    def fit(self, value: Any, canvas: int) -> np.ndarray:
        """Returns a value of an example as the beginning of a row of that shape, whose rest is padding."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """Pixels of any size, placed on the canvas: uint8 [height, width, *channels]."""

    channels: tuple[int, ...] = ()
    dtype = np.uint8
    padding = 0

    def shape(self, canvas: int) -> tuple[int, ...]:
        return (canvas, canvas, *self.channels)

    def fit(self, value: np.ndarray, canvas: int) -> np.ndarray:
        return shrink(value, canvas)


@dataclasses.dataclass(frozen=True)
class Integers:
    """Integers of the same shape in every example, such as a label ([]) or the tokens of a caption ([L])."""

    size: tuple[int, ...] = ()
    padding: int = -1
    dtype = np.int32

    def shape(self, canvas: int) -> tuple[int, ...]:
        return self.size

    def fit(self, value: Any, canvas: int) -> np.ndarray:
        return np.asarray(value, np.int32).reshape(self.size)


@dataclasses.dataclass(frozen=True)
class Text:
    """The captions of an image, texts of which at most `captions` are taken: tokens [captions, context], 0 for none.

    A batch has them all; `augment.batch` chooses one for each image.
    """

    captions: int  # most of an image
    context: int  # tokens of each, see `tokenizer.tokenize`
    kinds: tuple[str, ...] = ()  # names of the captions by position, if these differ by more than chance
    dtype = np.int32
    padding = 0

    def shape(self, canvas: int) -> tuple[int, ...]:
        return self.captions, self.context

    def fit(self, value: Sequence[str], canvas: int) -> np.ndarray:
        return tokenize(value[: self.captions], self.context)


@dataclasses.dataclass(frozen=True)
class Segments:
    """The class of each pixel, placed on the canvas: uint8 [height, width], `UNKNOWN` outside of the image too."""

    classes: tuple[str, ...]
    dtype = np.uint8
    padding = UNKNOWN

    def shape(self, canvas: int) -> tuple[int, ...]:
        return canvas, canvas

    def fit(self, value: np.ndarray, canvas: int) -> np.ndarray:
        height, width = fitted_size(value, canvas)
        return np.asarray(Image.fromarray(value).resize((width, height), Image.Resampling.NEAREST))


@dataclasses.dataclass(frozen=True)
class Boxes:
    """The boxes of an image, at most `count`: float32 [count, 5].

    Each is (left, top, right, bottom), as shares of the width and the height of the image, and its class; -1: none.
    """

    count: int  # most of an image
    classes: tuple[str, ...]
    dtype = np.float32
    padding = -1

    def shape(self, canvas: int) -> tuple[int, ...]:
        return self.count, 5

    def fit(self, value: np.ndarray, canvas: int) -> np.ndarray:
        return value


def image_fields(extra: Iterable[str] = (), text: Text | None = None) -> dict[str, Field]:
    """Returns the fields of labelled images, with a mask if `extra` names it, and captions if there are any."""
    fields: dict[str, Field] = {"image": Picture((3,)), "label": Integers()}
    fields |= {"mask": Picture()} if "mask" in extra else {}
    return fields | ({"text": text} if text else {})


def fit(pixels: np.ndarray, canvas: int) -> np.ndarray:
    """Places a picture at the top left of a square canvas, and shrinks it first if it is too large.

    Args:
        pixels: uint8 [height, width, ...].
        canvas: side of the canvas in pixels.

    Returns:
        uint8 [canvas, canvas, ...], 0 outside the picture.
    """
    pixels = shrink(pixels, canvas)
    height, width = pixels.shape[:2]
    result = np.zeros((canvas, canvas, *pixels.shape[2:]), np.uint8)
    result[:height, :width] = pixels
    return result


def shrink(pixels: np.ndarray, canvas: int) -> np.ndarray:
    """Returns a picture, uint8 [height, width, ...], which is shrunk if it is larger than a canvas."""
    height, width = fitted_size(pixels, canvas)
    if (height, width) == pixels.shape[:2]:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def fitted_size(pixels: np.ndarray, canvas: int) -> tuple[int, int]:
    """Returns the height and width of a picture on its canvas; one that is too large keeps its aspect ratio."""
    height, width = pixels.shape[:2]
    longer = max(height, width)
    if longer <= canvas:
        return height, width
    return max(1, round(height * canvas / longer)), max(1, round(width * canvas / longer))
