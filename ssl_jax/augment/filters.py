"""Gaussian blur and Sobel edges."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp

from ssl_jax.augment.operation import BLACK, Operation, Range, between, interval
from ssl_jax.augment.planes import Planes, each
from ssl_jax.fields import one_of
from ssl_jax.numeric import widen

BORDERS = {"zero": "constant", "edge": "edge", "reflect": "reflect"}  # our names -> those of jnp.pad


@dataclasses.dataclass(frozen=True)
class Blur(Operation):
    """Gaussian blur of random width."""

    sigma: Annotated[Range, interval] = (0.1, 2.0)  # standard deviation in pixels, uniform
    border: Annotated[str, one_of(BORDERS)] = "edge"  # see `blur`; "zero" also cuts the kernel to a tenth of the side
    numbers = 2

    def draw(self, uniform):
        """Returns the sigma in pixels, 0 if there is no blur."""
        return jnp.where(uniform[0] < self.p, between(uniform[1], *self.sigma), 0.0)

    def __call__(self, image, drawn, fill=BLACK):
        size = max(image[0].shape)
        # SimCLR and BYOL, which pad with zeros, have kernels of a tenth of the side; PIL's reach as far as they need.
        radius = size // 20 if self.border == "zero" else min(round(4 * self.sigma[1]), size - 1)
        return blur(image, drawn, radius, self.border)


@dataclasses.dataclass(frozen=True)
class Sobel(Operation):
    """The size of the Sobel derivative of each plane, in which the edge from 0 to 1 is 1 (SimCLR, arXiv:2002.05709).

    SimCLR's Figure 4 shows edges in colour and does not say how two derivatives become one.
    """

    def change(self, image, chosen, fill):
        return each(lambda x: jnp.minimum(jnp.hypot(*sobel(x, "reflect")) / 4, 1.0), image)


def blur_matrix(sigma, size: int, radius: int, border: str) -> jax.Array:
    """The matrix [size, size] that blurs a line with a Gaussian of `sigma` pixels, cut off beyond `radius`."""
    offset = jnp.arange(-radius, size + radius, dtype=float)[None, :] - jnp.arange(size, dtype=float)[:, None]
    sigma = jnp.maximum(jnp.asarray(sigma, float), 1e-3)  # at 0 the limit: the identity
    taps = jnp.where(jnp.abs(offset) <= radius, jnp.exp(-0.5 * (offset / sigma) ** 2), 0.0)
    left, inner, right = jnp.split(taps / taps.sum(axis=1, keepdims=True), [radius, radius + size], axis=1)
    if border == "edge":  # what lies outside counts for the first and the last pixel
        left, right = left.sum(axis=1, keepdims=True), right.sum(axis=1, keepdims=True)
        inner += jnp.pad(left, ((0, 0), (0, size - 1))) + jnp.pad(right, ((0, 0), (size - 1, 0)))
    if border == "reflect":  # ... for its mirror image, the outermost pixel not repeated
        rest = size - radius - 1
        inner += jnp.pad(left[:, ::-1], ((0, 0), (1, rest))) + jnp.pad(right[:, ::-1], ((0, 0), (rest, 1)))
    return inner


def blur(image: Planes, sigma, radius: int, border: str = "edge") -> Planes:
    """Gaussian blur as two matrix products.

    Args:
        image: float planes [H, W].
        sigma: standard deviation in pixels; scalar, may be traced; 0 leaves the image as it is.
        radius: how many pixels the kernel reaches to each side (below H and W for "reflect").
        border: "zero" darkens the borders (SimCLR, BYOL), "edge" repeats the last pixel (PIL), "reflect" mirrors the
            image (torchvision on tensors).
    """
    height, width = image[0].shape
    rows = blur_matrix(sigma, height, radius, border).astype(image[0].dtype)
    columns = blur_matrix(sigma, width, radius, border).astype(image[0].dtype)
    return each(lambda plane: rows @ plane @ columns.T, image)


def sobel(plane: jax.Array, border: str = "zero") -> tuple[jax.Array, jax.Array]:
    """The 3x3 Sobel derivatives of [H, W], downwards and rightwards, each [H, W].

    DeepCluster (arXiv:1807.05520) takes them of the mean of the three planes, with border "zero".
    """
    x = jnp.pad(plane, 1, mode=BORDERS[border])
    rows = x[:-2] + 2.0 * x[1:-1] + x[2:]
    columns = x[:, :-2] + 2.0 * x[:, 1:-1] + x[:, 2:]
    return columns[2:] - columns[:-2], rows[:, 2:] - rows[:, :-2]


def edges(images: jax.Array) -> jax.Array:
    """Images [..., H, W, 3] without their colours -> the Sobel derivatives of their grey, [..., H, W, 2].

    The two planes are brightness to the left less that to the right, and above less below; beyond the border is 0.
    Source: DeepCluster (Caron et al. 2018, arXiv:1807.05520), section 3.3; the authors' models.
    """
    down, right = jnp.vectorize(sobel, signature="(h,w)->(h,w),(h,w)")(widen(images).mean(-1))
    return jnp.stack([-right, -down], axis=-1)
