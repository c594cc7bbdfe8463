"""Operations that move pixels, beside the crop."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import jax
import jax.numpy as jnp

from ssl_jax.augment.operation import Operation, between, random_key
from ssl_jax.augment.planes import Planes, each
from ssl_jax.augment.resampling import weights
from ssl_jax.fields import Rule, not_negative, one_of, positive

at_least_two = Rule(lambda value: value >= 2, "2 or more")
PADDING = {"zero": "constant", "reflect": "reflect"}  # our names -> those of jnp.pad


@dataclasses.dataclass(frozen=True)
class Rotate90(Operation):
    """Rotation by 90, 180 or 270 degrees (SimCLR, arXiv:2002.05709, Figure 4)."""

    numbers = 2
    moves = True

    def choose(self, uniform):
        return jnp.floor(3 * uniform[0]).astype(jnp.int32)

    def change(self, image, chosen, fill):
        return each(lambda x: jnp.stack([jnp.rot90(x, turns) for turns in (1, 2, 3)])[chosen], image)


@dataclasses.dataclass(frozen=True)
class PadAndShift(Operation):
    """A shift by whole pixels: the image is padded on all sides, and cut out at a random place of it."""

    pixels: Annotated[int, positive] = 4  # of padding, and as many at most of the shift along each axis
    border: Annotated[str, one_of(PADDING)] = "reflect"  # what the padding shows: "zero" or "reflect"
    numbers = 3
    moves = True

    def choose(self, uniform):
        return jnp.floor((2 * self.pixels + 1) * uniform).astype(jnp.int32)

    def change(self, image, chosen, fill):
        def shift(x):
            return jax.lax.dynamic_slice(jnp.pad(x, self.pixels, mode=PADDING[self.border]), chosen, x.shape)

        return each(shift, image)


@dataclasses.dataclass(frozen=True)
class Shear(Operation):
    """Shears along both axes, about the centre (CPC v2, arXiv:1905.09272, appendix; it gives no strength)."""

    slope: Annotated[float, not_negative] = 0.3  # pixels of shift per pixel from the centre, in +- this
    numbers = 3
    moves = True

    def choose(self, uniform):
        return between(uniform, -self.slope, self.slope)

    def change(self, image, chosen, fill):
        height, width = image[0].shape
        right, down = chosen
        return warp(image, ((1.0, right, -right * height / 2), (down, 1.0, -down * width / 2)), fill)


@dataclasses.dataclass(frozen=True)
class Elastic(Operation):
    """Elastic deformation (CPC v2, arXiv:1905.09272, appendix; it gives no strength).

    Control points in a square grid are displaced at random; displacements between them are interpolated bicubically.
    """

    amplitude: Annotated[float, not_negative] = 0.05  # standard deviation of a displacement, as a share of the side
    points: Annotated[int, at_least_two] = 4  # control points a side
    numbers = 3
    moves = True

    def choose(self, uniform):
        return self.amplitude * jax.random.normal(random_key(uniform), (2, self.points, self.points))

    def change(self, image, chosen, fill):
        height, width = image[0].shape
        whole = (0, self.points)
        rows, columns = (weights(whole, whole, self.points, n, "bicubic", antialias=True) for n in (height, width))
        down, right = (rows @ grid @ columns.T for grid in chosen)
        y, x = jnp.meshgrid(jnp.arange(height, dtype=float), jnp.arange(width, dtype=float), indexing="ij")
        place = [y + height * down, x + width * right]
        return each(lambda plane: jax.scipy.ndimage.map_coordinates(plane, place, order=1, mode="nearest"), image)


def warp(image: Planes, matrix, fill: Sequence) -> Planes:
    """Moves pixels by an affine map, bilinearly.

    Args:
        image: planes [H, W].
        matrix: [2, 3]; a pixel whose centre is at (x, y) gets what lies at matrix @ (x, y, 1).
        fill: of what lies outside, one value a plane.
    """
    height, width = image[0].shape
    y, x = jnp.meshgrid(*(jnp.arange(n, dtype=float) + 0.5 for n in (height, width)), indexing="ij")
    (a, b, c), (d, e, f) = matrix
    x, y = a * x + b * y + c, d * x + e * y + f
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)

    def move(plane, outside):
        moved = jax.scipy.ndimage.map_coordinates(plane, [y - 0.5, x - 0.5], order=1, mode="nearest")
        return jnp.where(inside, moved, outside)

    return each(move, image, tuple(fill))
