"""The fields of an example, and how each is stacked into an array of a batch."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from PIL import Image


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
        """Returns a value of an example as a row of that shape."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """Pixels of any size, placed on the canvas: uint8 [height, width, *channels]."""

    channels: tuple[int, ...] = ()
    dtype = np.uint8
    padding = 0

    def shape(self, canvas: int) -> tuple[int, ...]:
        return (canvas, canvas, *self.channels)

    def fit(self, value: np.ndarray, canvas: int) -> np.ndarray:
        return fit(value, canvas)


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


def image_fields(extra: Iterable[str] = ()) -> dict[str, Field]:
    """Returns the fields of labelled images, with a mask if `extra` names it."""
    fields: dict[str, Field] = {"image": Picture((3,)), "label": Integers()}
    return fields | {"mask": Picture()} if "mask" in extra else fields


def fit(pixels: np.ndarray, canvas: int) -> np.ndarray:
    """Places a picture at the top left of a square canvas, and shrinks it first if it is too large.

    Args:
        pixels: uint8 [height, width, ...].
        canvas: side of the canvas in pixels.

    Returns:
        uint8 [canvas, canvas, ...], 0 outside the picture.
    """
    height, width = fitted_size(pixels, canvas)
    if (height, width) != pixels.shape[:2]:
        pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
    result = np.zeros((canvas, canvas, *pixels.shape[2:]), np.uint8)
    result[:height, :width] = pixels
    return result


def fitted_size(pixels: np.ndarray, canvas: int) -> tuple[int, int]:
    """Returns the height and width of a picture on its canvas; one that is too large keeps its aspect ratio."""
    height, width = pixels.shape[:2]
    longer = max(height, width)
    if longer <= canvas:
        return height, width
    return max(1, round(height * canvas / longer)), max(1, round(width * canvas / longer))
