"""How each kind of value that a source gives is stacked into the arrays of a batch."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from PIL import Image


class Field(Protocol):
    """One entry of a source's examples: what one row of its array in a batch looks like."""

    @property
    def dtype(self) -> type: ...

    @property
    def padding(self) -> int:
        """What rows without an example are filled with."""

    def shape(self, canvas: int) -> tuple[int, ...]:
        """Returns the shape of a row, for canvases of this side in pixels."""

    def fit(self, value: Any, canvas: int) -> np.ndarray:
        """Returns an example's value as such a row."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """Pixels of any size, put on the canvas: uint8 [height, width, *channels]."""

    channels: tuple[int, ...] = ()
    dtype = np.uint8
    padding = 0

    def shape(self, canvas: int) -> tuple[int, ...]:
        return (canvas, canvas, *self.channels)

    def fit(self, value: np.ndarray, canvas: int) -> np.ndarray:
        return fit(value, canvas)


@dataclasses.dataclass(frozen=True)
class Integers:
    """Integers in an array whose shape all examples share, such as a label ([]) or the tokens of a caption ([L])."""

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
    """Puts a picture at the top left of a square canvas, shrunk first if it is too large.

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
    """Returns the height and width of a picture on its canvas: its own, or, if that is too large, shrunk in aspect."""
    height, width = pixels.shape[:2]
    longer = max(height, width)
    if longer <= canvas:
        return height, width
    return max(1, round(height * canvas / longer)), max(1, round(width * canvas / longer))
