"""RandAugment (Cubuk et al. 2019, arXiv:1909.13719): Pillow's operations, on planes with values in [0, 1].

Each takes a level in [0, 1], where 1 is the strongest of the papers, and returns values in [0, 1]. The ranges are those
of the TPU EfficientNet code, which PyContrast (InfoMin) uses; at level 1 its solarisation does nothing.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.augment.color import contrast_around_gray, saturation_from_gray, scale_brightness, solarize
from ssl_jax.augment.geometry import warp
from ssl_jax.augment.operation import BLACK, Operation
from ssl_jax.augment.planes import Planes, each
from ssl_jax.fields import Rule

COUNT = 2  # operations that follow each other, as in the papers
MAGNITUDE_STD = 0.5  # as in PyContrast
to_ten = Rule(lambda value: 0 <= value <= 10, "a number from 0 to 10")


class Chosen(NamedTuple):
    """Operations that follow each other."""

    operation: jax.Array  # int32 [n], in the order of `COLOURS` and then `MOVES`; beyond them: none
    level: jax.Array  # [n], in [0, 1]
    sign: jax.Array  # [n], -1 or 1, the direction of a move


def autocontrast(image: Planes, level) -> Planes:
    """Stretches each plane to the whole range; a constant one stays."""

    def stretch(x):
        low, high = x.min(), x.max()
        return jnp.where(high > low, (x - low) / jnp.where(high > low, high - low, 1.0), x)

    return each(stretch, image)


def equalize(image: Planes, level) -> Planes:
    """Makes the 256 levels of each plane equally frequent."""

    def spread(x):
        pixels = jnp.round(255 * x).astype(jnp.int32)
        below = jnp.sum(pixels[:, :, None] < jnp.arange(256)[None, None, :], axis=(0, 1))  # pixels darker than a level
        step = below[pixels.max()] // 255
        table = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
        return jnp.where(step > 0, table[pixels] / 255, x)

    return each(spread, image)


def invert(image: Planes, level) -> Planes:
    return each(lambda x: 1.0 - x, image)


def posterize(image: Planes, level) -> Planes:
    """Keeps up to 4 bits of each value."""
    width = 2.0 ** (8 - jnp.floor(4 * level))
    return each(lambda x: jnp.floor(jnp.round(255 * x) / width) * width / 255, image)


def solarize_from(image: Planes, level) -> Planes:
    """Inverts what is brighter than a threshold, which rises with the level."""
    return solarize(image, jnp.floor(256 * level) / 255)


def solarize_add(image: Planes, level) -> Planes:
    """Brightens the darker half."""
    added = jnp.floor(110 * level) / 255
    return each(lambda x: jnp.where(x < 128 / 255, jnp.minimum(x + added, 1.0), x), image)


def saturation(image: Planes, level) -> Planes:
    return clipped(saturation_from_gray(image, factor(level)))


def contrast(image: Planes, level) -> Planes:
    return clipped(contrast_around_gray(image, factor(level)))


def brightness(image: Planes, level) -> Planes:
    return clipped(scale_brightness(image, factor(level)))


def sharpness(image: Planes, level) -> Planes:
    """Blends with a 3x3 blur, or away from it; the outermost pixels stay."""

    def sharpen(x):
        sums = x[:-2] + x[1:-1] + x[2:]
        smooth = (sums[:, :-2] + sums[:, 1:-1] + sums[:, 2:] + 4.0 * x[1:-1, 1:-1]) / 13
        smooth = x.at[1:-1, 1:-1].set(smooth)
        return smooth + factor(level) * (x - smooth)

    return clipped(each(sharpen, image))


def factor(level):
    """Of an enhancement: 1 leaves the image as it is."""
    return 0.1 + 1.8 * level


def clipped(image: Planes) -> Planes:
    return each(lambda x: jnp.clip(x, 0.0, 1.0), image)


def rotate(level, height: int, width: int):
    """By up to 30 degrees about the centre, counter-clockwise."""
    angle = math.radians(30) * level
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    x, y = width / 2, height / 2
    return (cos, -sin, x - cos * x + sin * y), (sin, cos, y - sin * x - cos * y)


def shear_x(level, height: int, width: int):
    return (1.0, 0.3 * level, 0.0), (0.0, 1.0, 0.0)


def shear_y(level, height: int, width: int):
    return (1.0, 0.0, 0.0), (0.3 * level, 1.0, 0.0)


def translate_x(level, height: int, width: int):
    return (1.0, 0.0, 0.45 * width * level), (0.0, 1.0, 0.0)


def translate_y(level, height: int, width: int):
    return (1.0, 0.0, 0.0), (0.0, 1.0, 0.45 * height * level)


COLOURS = (
    autocontrast,
    equalize,
    invert,
    posterize,
    solarize_from,
    solarize_add,
    saturation,
    contrast,
    brightness,
    sharpness,
)
MOVES = (rotate, shear_x, shear_y, translate_x, translate_y)  # (level in [-1, 1], H, W) -> matrix for `warp`
OPERATIONS = len(COLOURS) + len(MOVES)


@dataclasses.dataclass(frozen=True)
class RandAugment(Operation):
    """Two operations, each drawn from all of RandAugment's; `p` is the probability of each."""

    magnitude: Annotated[float, to_ten] = 10.0  # the mean of a normal distribution, which is clipped to 0 to 10
    numbers = 4 * COUNT
    moves = True

    def draw(self, uniform):
        happens, which, noise, sign = uniform.reshape(4, COUNT)
        index = jnp.floor(which * OPERATIONS).astype(jnp.int32)
        level = jnp.clip(self.magnitude + MAGNITUDE_STD * jax.scipy.special.ndtri(noise), 0.0, 10.0) / 10
        return Chosen(jnp.where(happens < self.p, index, OPERATIONS), level, jnp.where(sign < 0.5, -1.0, 1.0))

    def __call__(self, image, drawn, fill=BLACK):
        return randaugment(image, drawn, fill)

    def follow(self, salience, drawn):
        moves = jnp.where(drawn.operation < len(COLOURS), OPERATIONS, drawn.operation)
        return self(salience, drawn._replace(operation=moves))


def randaugment(image: Planes, chosen: Chosen, fill: Sequence) -> Planes:
    """Applies chosen operations, one after the other.

    Args:
        image: planes [H, W] in [0, 1].
        chosen: may be traced.
        fill: the colour of what moves leave empty, one value per plane.
    """
    height, width = image[0].shape

    def step(image, one):
        matrices = jnp.stack([jnp.array(matrix(one.sign * one.level, height, width)) for matrix in MOVES])
        matrix = matrices[jnp.clip(one.operation - len(COLOURS), 0, len(MOVES) - 1)]
        # All moves are one branch: a vectorised switch computes every branch, and a warp costs most.
        branches = [*COLOURS, lambda image, level: warp(image, matrix, fill), lambda image, level: image]
        move, none = len(COLOURS), len(COLOURS) + 1
        branch = jnp.where(one.operation >= OPERATIONS, none, jnp.minimum(one.operation, move))
        return jax.lax.switch(branch, branches, image, one.level), None

    return jax.lax.scan(step, image, chosen)[0]
