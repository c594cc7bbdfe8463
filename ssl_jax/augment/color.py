"""Colour operations on one image, given as planes with values in [0, 1]; of the functions only `jitter` clips.

Published codes differ in what a colour jitter is: `SEMANTICS` lists their brightness, contrast, saturation and hue.
A factor of 1 (for hue and an additive brightness: 0) leaves the image as it is.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated

import jax
import jax.numpy as jnp

from ssl_jax.augment.operation import BLACK, Operation, between
from ssl_jax.augment.planes import Planes, each
from ssl_jax.fields import Rule, not_negative, one_of, share

half_turn = Rule(lambda value: 0 <= value <= 0.5, "a number from 0 to 0.5")
LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601, to the digits that torchvision and TensorFlow use


def luma(image: Planes) -> jax.Array:
    """Returns the luma, a weighted sum of the channels, [H, W]."""
    red, green, blue = image
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def grayscale(image: Planes) -> Planes:
    """Luma on all three planes."""
    return (luma(image),) * 3


def scale_brightness(image: Planes, factor) -> Planes:
    return each(lambda x: factor * x, image)


def add_brightness(image: Planes, delta) -> Planes:
    return each(lambda x: x + delta, image)


def contrast_around_gray(image: Planes, factor) -> Planes:
    """Blends with the mean of the grey image (torchvision)."""
    mean = luma(image).mean()
    return each(lambda x: factor * x + (1.0 - factor) * mean, image)


def contrast_per_channel(image: Planes, factor) -> Planes:
    """Blends each channel with its own mean (TensorFlow, BYOL)."""
    return each(lambda x: factor * x + (1.0 - factor) * x.mean(), image)


def saturation_from_gray(image: Planes, factor) -> Planes:
    """Blends with the grey image (torchvision)."""
    gray = luma(image)
    return each(lambda x: factor * x + (1.0 - factor) * gray, image)


def saturation_in_hsv(image: Planes, factor) -> Planes:
    """Multiplies the S of HSV, up to 1 (TensorFlow, BYOL); at a fixed H and V, each V - x is in proportion to S."""
    _, chroma, v = rgb_to_hexcone(image)
    factor = jnp.minimum(factor, v / jnp.where(chroma == 0, 1.0, chroma))
    return each(lambda x: v - factor * (v - x), image)


def hue(image: Planes, turns) -> Planes:
    """Turns the H of HSV (all of them)."""
    sextant, chroma, v = rgb_to_hexcone(image)
    return hexcone_to_rgb((sextant + 6.0 * turns, chroma, v))


SEMANTICS: dict[str, tuple[Callable, ...]] = {
    "torchvision": (scale_brightness, contrast_around_gray, saturation_from_gray, hue),
    "simclr": (scale_brightness, contrast_per_channel, saturation_in_hsv, hue),  # SimCLR v2; v1 is as BYOL
    "byol": (add_brightness, contrast_per_channel, saturation_in_hsv, hue),
}


@dataclasses.dataclass(frozen=True)
class Jitter(Operation):
    """Changes of brightness, contrast, saturation and hue, of random strength and in random order."""

    brightness: Annotated[float, not_negative] = 0.4  # factor in 1 +- this, with "byol" semantics summand in +- this
    contrast: Annotated[float, not_negative] = 0.4  # factor in 1 +- this
    saturation: Annotated[float, not_negative] = 0.4  # factor in 1 +- this
    hue: Annotated[float, half_turn] = 0.1  # turns in +- this
    semantics: Annotated[str, one_of(SEMANTICS)] = "torchvision"  # whose operations
    numbers = 9

    @property
    def operations(self) -> list[tuple[Callable, float]]:
        """The colour operations that do something, each with its strength."""
        strengths = (self.brightness, self.contrast, self.saturation, self.hue)
        return [pair for pair in zip(SEMANTICS[self.semantics], strengths, strict=True) if pair[1]]

    @property
    def idle(self):
        return self.p == 0 or not self.operations

    def draw(self, uniform):
        """Returns the order of the n operations, int32 [n], and their factors [n], neutral ones if there is no jitter.

        That saves the choice between two images, a pass over all pixels.
        """
        order, factors = uniform[1:].reshape(2, 4)[:, : len(self.operations)]
        neutral = jnp.array([0.0 if operation in (add_brightness, hue) else 1.0 for operation, _ in self.operations])
        spread = jnp.array([strength for _, strength in self.operations])
        lowest = jnp.where(neutral > 0, jnp.maximum(neutral - spread, 0.0), -spread)
        factors = between(factors, lowest, neutral + spread)
        return jnp.argsort(order), jnp.where(uniform[0] < self.p, factors, neutral)

    def __call__(self, image, drawn, fill=BLACK):
        order, factors = drawn
        return jitter(image, order, factors, [operation for operation, _ in self.operations])


@dataclasses.dataclass(frozen=True)
class Gray(Operation):
    """Loss of all colour."""

    def change(self, image, chosen, fill):
        return grayscale(image)


@dataclasses.dataclass(frozen=True)
class Solarize(Operation):
    """Inversion of what is bright."""

    threshold: Annotated[float, share] = 0.5  # values from here on are inverted

    def change(self, image, chosen, fill):
        return solarize(image, self.threshold)


def jitter(image: Planes, order: jax.Array, factors: jax.Array, operations: Sequence[Callable]) -> Planes:
    """Applies colour operations in a given order and clips to [0, 1] after each.

    Args:
        image: planes [H, W] in [0, 1].
        order: int [n], a permutation of the operations; may be traced.
        factors: [n], what each operation gets, in the order of `operations`.
        operations: n functions (planes, factor) -> planes, such as `SEMANTICS["byol"]`.

    Returns:
        Planes [H, W] in [0, 1].
    """

    def step(image, chosen):
        index, factor = chosen
        image = jax.lax.switch(index, operations, image, factor)
        return each(lambda x: jnp.clip(x, 0.0, 1.0), image), None

    # Unrolled, XLA would fuse the steps and compute each one again inside every later one (20 times slower).
    return jax.lax.scan(step, image, (order, factors[order]))[0]


def solarize(image: Planes, threshold: float | jax.Array = 0.5) -> Planes:
    """Inverts the values from the threshold on."""
    return each(lambda x: jnp.where(x < threshold, x, 1.0 - x), image)


def normalize(image: Planes, mean: Sequence[float], std: Sequence[float]) -> Planes:
    """(image - mean) / std per channel."""
    return each(lambda x, m, s: (x - m) / s, image, tuple(mean), tuple(std))


def rgb_to_hexcone(image: Planes) -> Planes:
    """HSV before its divisions: hue in sixths of a turn [-1, 5], chroma S * V, value (Smith 1978, SIGGRAPH 12(3))."""
    r, g, b = image
    v = jnp.maximum(jnp.maximum(r, g), b)
    chroma = v - jnp.minimum(jnp.minimum(r, g), b)
    each_sixth = 1.0 / jnp.where(chroma == 0, 1.0, chroma)
    blue_or_green = jnp.where(v == g, 2.0 + (b - r) * each_sixth, 4.0 + (r - g) * each_sixth)
    return jnp.where(v == r, (g - b) * each_sixth, blue_or_green), chroma, v


def hexcone_to_rgb(image: Planes) -> Planes:
    """The inverse of `rgb_to_hexcone`; takes any real hue, since hues lie on a circle."""
    sextant, chroma, v = image

    def channel(offset):
        k = sextant + offset
        k = k - 6.0 * jnp.floor(k / 6.0)
        return v - chroma * jnp.clip(jnp.minimum(k, 4.0 - k), 0.0, 1.0)

    return channel(5.0), channel(3.0), channel(1.0)


def rgb_to_hsv(image: Planes) -> Planes:
    """Hue in turns [0, 1), saturation and value in [0, 1]."""
    sextant, chroma, v = rgb_to_hexcone(image)
    return jnp.where(sextant < 0, sextant + 6.0, sextant) / 6.0, chroma / jnp.where(v == 0, 1.0, v), v


def hsv_to_rgb(image: Planes) -> Planes:
    """The inverse of `rgb_to_hsv`; takes any real hue."""
    h, s, v = image
    return hexcone_to_rgb((6.0 * h, s * v, v))
