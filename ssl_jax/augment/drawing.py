"""The random part of augmentation: uniform numbers -> what exactly is done to one image."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.augment.color import add_brightness, hue
from ssl_jax.augment.patches import Grid, patch_box
from ssl_jax.augment.randaugment import OPERATIONS, Chosen
from ssl_jax.augment.view import Range, View

NUMBERS = 28  # uniform numbers that a view consumes
TRIES = 10  # crops to choose from, where one should hold some of a mask
MAGNITUDE_STD = 0.5  # of RandAugment, as in PyContrast
SHARED = 5  # the first of them, crop and flip, which patches of one grid share


class Draw(NamedTuple):
    """What is done to one image; the values are drawn, the rest is fixed by the view."""

    crop: jax.Array  # int32 [4], (top, left, height, width) of the crop on the canvas
    box: jax.Array  # [4], what is seen of the crop: all of it, or a patch in fractions of pixels
    flip: jax.Array  # bool []
    order: jax.Array  # int32 [n], the order of the n colour operations
    factors: jax.Array  # [n], their factors; neutral ones where there is no jitter
    gray: jax.Array  # bool []
    sigma: jax.Array  # [] of the blur in pixels; 0 where there is none
    solarize: jax.Array  # bool []
    chosen: Chosen  # of RandAugment


def draw(view: View, uniform: jax.Array, valid: jax.Array, mask: jax.Array | None = None) -> Draw:
    """Draws a transformation from a view's distribution.

    Args:
      view: the distribution.
      uniform: [NUMBERS], independent and uniform on [0, 1): all the randomness there is. One array of them is much
        cheaper to compile and to make than a key for each decision. More than NUMBERS are for further crops, see
        `covering_box`.
      valid: int [4], (top, left, height, width) of the image on its canvas.
      mask: of the image, [H, W] on the canvas, or None.
    """
    flip, jitter, gray, blur, sigma, solarize = uniform[4:10]
    factors, order = jnp.split(uniform[10:18], 2)
    crop = crop_box(uniform[:4], valid, view.crop, view.ratio)
    if view.cover and mask is not None:
        crop = covering_box(jnp.concatenate([uniform[:4], uniform[NUMBERS:]]).reshape(-1, 4), valid, view, mask)
    n = len(view.operations)
    neutral = jnp.array([0.0 if operation in (add_brightness, hue) else 1.0 for operation, _ in view.operations])
    spread = jnp.array([strength for _, strength in view.operations])
    lowest = jnp.where(neutral > 0, jnp.maximum(neutral - spread, 0.0), -spread)
    return Draw(
        crop=crop,
        box=crop,
        flip=flip < view.flip,
        order=jnp.argsort(order[:n]),
        factors=jnp.where(jitter < view.jitter, between(factors[:n], lowest, neutral + spread), neutral),
        gray=gray < view.gray,
        sigma=jnp.where(blur < view.blur, between(sigma, *view.sigma), 0.0),
        solarize=solarize < view.solarize,
        chosen=choose(view, uniform[20:28].reshape(4, 2)),
    )


def choose(view: View, uniform: jax.Array) -> Chosen:
    """Draws the operations of RandAugment from uniform numbers [4, n]."""
    happens, which, noise, sign = uniform
    index = jnp.floor(which * OPERATIONS).astype(jnp.int32)
    level = jnp.clip(view.magnitude + MAGNITUDE_STD * jax.scipy.special.ndtri(noise), 0.0, 10.0) / 10
    return Chosen(jnp.where(happens < view.randaugment, index, OPERATIONS), level, jnp.where(sign < 0.5, -1.0, 1.0))


def draw_patch(drawn: Draw, grid: Grid, size: int, cell: jax.Array, uniform: jax.Array) -> Draw:
    """Narrows what is seen to a patch of `size` pixels in a cell of a grid; `uniform` [NUMBERS] as for `draw`."""
    return drawn._replace(box=patch_box(grid, size, cell, uniform[18:20], drawn.crop, drawn.flip))


def between(uniform: jax.Array, low, high) -> jax.Array:
    return low + uniform * (high - low)


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


def covering_box(uniform: jax.Array, valid: jax.Array, view: View, mask: jax.Array) -> jax.Array:
    """The first of some random boxes that holds `view.cover` of a mask; where none does, the one that holds most of it.

    Args:
      uniform: [N, 4], uniform numbers for N boxes, see `crop_box`.
      valid: int [4], (top, left, height, width) of the image.
      view: how crops are drawn.
      mask: [H, W].

    Source: CAST (Selvaraju et al. 2020, arXiv:2012.04630); its code draws places around the centre of the mask, very
    widely, and falls back on a box around it.
    """
    boxes = jax.vmap(lambda one: crop_box(one, valid, view.crop, view.ratio))(uniform)
    mask = mask.astype(float)
    rows, columns = (inside(boxes[:, axis::2], mask.shape[axis]) for axis in (0, 1))
    held = jnp.sum(rows @ mask * columns, axis=1)
    return boxes[jnp.argmax(jnp.minimum(held, view.cover * mask.sum()))]


def inside(intervals: jax.Array, length: int) -> jax.Array:
    """Which pixels of a line [length] lie in each of the intervals [N, 2], (start, length): 1 or 0, [N, length]."""
    start, count = intervals[:, :1], intervals[:, 1:]
    pixel = jnp.arange(length)[None, :]
    return ((pixel >= start) & (pixel < start + count)).astype(float)
