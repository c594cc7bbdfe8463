"""Position embeddings of a vision transformer, for any grid of patches."""

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.errors import UserError, suggest
from ssl_jax.numeric import widen

RESAMPLINGS = ("bicubic", "antialias", "offset")


def sincos(rows: np.ndarray, columns: np.ndarray, width: int, first: str = "rows") -> np.ndarray:
    """Returns the fixed two-dimensional sine-cosine embedding [R * C, width] of a grid of patches, row by row.

    Half of the channels tell the row, half the column; each half is the sines and then the cosines of the coordinate at
    width / 4 frequencies from 1 down to 1 / 10000.

    Args:
        rows: coordinates [R] of the rows, in patches.
        columns: coordinates [C] of the columns.
        width: channels, a multiple of 4.
        first: which coordinate has the first half of the channels, "rows" (Chen et al. 2021, arXiv:2104.02057) or
            "columns" (He et al. 2021, arXiv:2111.06377).

    Raises:
        UserError: if the width is no multiple of 4.
    """
    if width % 4:
        raise UserError(f"sine-cosine positions need a width that is a multiple of 4, not {width}")
    frequencies = 1e4 ** -(np.arange(width // 4) / (width // 4))

    def encode(coordinates):
        angles = coordinates[:, None] * frequencies[None]
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    row = np.repeat(encode(rows), len(columns), axis=0)
    column = np.tile(encode(columns), (len(rows), 1))
    return np.concatenate([row, column] if first == "rows" else [column, row], axis=1)


def stretched(old: int, new: int) -> np.ndarray:
    """Returns the coordinates [new] of the cells of an axis that covers what `old` cells 0, 1, ... covered."""
    return (np.arange(new) + 0.5) * (old / new) - 0.5


def resample(table: jax.Array, rows: int, columns: int, how: str = "bicubic") -> jax.Array:
    """Returns learned positions [side * side, D] interpolated to a grid of patches, [rows * columns, D].

    Published codes differ: "bicubic" interpolates with cubic convolution (a = -0.75) and no antialiasing (MAE, Hugging
    Face), "antialias" widens the kernel (a = -0.5) when it shrinks the grid (timm), and "offset" is "bicubic" with the
    new grid taken to be a tenth of a cell longer (DINO).

    Raises:
        UserError: if the way to resample is unknown.
    """
    if how not in RESAMPLINGS:
        raise UserError(f"there is no resampling {how!r}; {suggest(how, RESAMPLINGS)}")
    side = round(table.shape[0] ** 0.5)
    if (rows, columns) == (side, side):
        return table
    wide = widen(table).reshape(side, side, -1)
    vertical, horizontal = (jnp.asarray(cubic_weights(side, n, how), wide.dtype) for n in (rows, columns))
    return jnp.einsum("ri,cj,ijd->rcd", vertical, horizontal, wide).reshape(rows * columns, -1).astype(table.dtype)


def cubic_weights(old: int, new: int, how: str) -> np.ndarray:
    """Returns the weight [new, old] of each old point in each new one."""
    centre = (np.arange(new) + 0.5) * old / (new + 0.1) - 0.5 if how == "offset" else stretched(old, new)
    if how == "antialias":
        distance = np.arange(old)[None] - centre[:, None]
        weights = cubic(distance * min(new / old, 1.0), a=-0.5)
        return weights / weights.sum(axis=1, keepdims=True)
    weights = np.zeros((new, old))
    for tap in range(-1, 3):  # beyond the border the last point is repeated
        point = np.floor(centre) + tap
        np.add.at(weights, (np.arange(new), np.clip(point, 0, old - 1).astype(int)), cubic(point - centre, a=-0.75))
    return weights


def cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Returns the cubic convolution kernel (Keys 1981) at distance x."""
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0))
