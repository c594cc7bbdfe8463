"""The crop of a view."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp

from ssl_jax.augment.operation import Range, between, interval, shares
from ssl_jax.augment.resampling import KERNELS
from ssl_jax.fields import check_fields, one_of, share

TRIES = 10  # crops to choose from, where one should hold some of what is salient


@dataclasses.dataclass(frozen=True)
class Crop:
    """The distribution of a box in the image, and how it is resized."""

    area: Annotated[Range, shares] = (0.08, 1.0)  # of the box as a share of the image, uniform
    ratio: Annotated[Range, interval] = (3 / 4, 4 / 3)  # width / height of the box, log-uniform
    cover: Annotated[float, share] = 0.0  # share of the image's salience, where it has one, that the box should hold
    resample: Annotated[str, one_of(KERNELS)] = "bilinear"
    antialias: bool = True

    def __post_init__(self):
        check_fields(self)

    @property
    def numbers(self) -> int:
        """Uniform numbers that `draw` consumes."""
        return 4 * TRIES if self.cover else 4

    def draw(self, uniform: jax.Array, valid: jax.Array, salience: jax.Array | None = None) -> jax.Array:
        """Returns a box in whole pixels, int [4], (top, left, height, width) on the canvas.

        Args:
            uniform: [numbers], uniform numbers.
            valid: int [4], (top, left, height, width) of the image on its canvas.
            salience: of the image, [H, W] on the canvas, or None.
        """
        if self.cover and salience is not None:
            return covering_box(uniform.reshape(-1, 4), valid, self, salience)
        return crop_box(uniform[:4], valid, self.area, self.ratio)


@dataclasses.dataclass(frozen=True)
class Whole(Crop):
    """All of the image, stretched to a square."""

    def draw(self, uniform, valid, salience=None):
        return valid


def crop_box(uniform: jax.Array, valid: jax.Array, area: Range, ratio: Range) -> jax.Array:
    """A random box in whole pixels inside a valid box: uniform area, log-uniform ratio, uniform place.

    One draw, clamped to the image (as BYOL does, arXiv:2006.07733 appendix B), where torchvision tries ten times.

    Args:
        uniform: [4], uniform numbers.
        valid: int [4], (top, left, height, width).
        area: range of the share of the valid area.
        ratio: range of width / height.
    """
    extent = valid[2:]
    pixels = extent.prod().astype(float) * between(uniform[0], *area)
    aspect = jnp.exp(between(uniform[1], *jnp.log(jnp.array(ratio))))
    sides = jnp.round(jnp.sqrt(jnp.stack([pixels / aspect, pixels * aspect]))).astype(extent.dtype)
    sides = jnp.clip(sides, 1, extent)
    room = (extent - sides + 1).astype(float)
    return jnp.concatenate([valid[:2] + jnp.floor(uniform[2:] * room).astype(extent.dtype), sides])


def covering_box(uniform: jax.Array, valid: jax.Array, crop: Crop, salience: jax.Array) -> jax.Array:
    """The first of some random boxes that holds `crop.cover` of the salience; if none does, the one that holds most.

    Args:
        uniform: [N, 4], uniform numbers for N boxes, see `crop_box`.
        valid: int [4], (top, left, height, width) of the image.
        crop: how boxes are drawn.
        salience: [H, W].

    Source: CAST (Selvaraju et al. 2020, arXiv:2012.04630); its code draws places around the centre of the mask, very
    widely, and falls back on a box around it.
    """
    boxes = jax.vmap(lambda one: crop_box(one, valid, crop.area, crop.ratio))(uniform)
    salience = salience.astype(float)
    rows, columns = (inside(boxes[:, axis::2], salience.shape[axis]) for axis in (0, 1))
    held = jnp.sum(rows @ salience * columns, axis=1)
    return boxes[jnp.argmax(jnp.minimum(held, crop.cover * salience.sum()))]


def inside(intervals: jax.Array, length: int) -> jax.Array:
    """Which pixels of a line [length] lie in each of the intervals [N, 2], (start, length): 1 or 0, [N, length]."""
    start, count = intervals[:, :1], intervals[:, 1:]
    pixel = jnp.arange(length)[None, :]
    return ((pixel >= start) & (pixel < start + count)).astype(float)
