"""Corruptions of an image at five severities, on the device: noise, blur, light and colour, resolution, JPEG.

The strengths are those of ImageNet-C's code (Hendrycks and Dietterich 2019, arXiv:1903.12261). Blur is in pixels of its
224, and grows with the root of the side: for 32 pixels that is close to the authors' CIFAR-10-C.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax import augment
from ssl_jax.augment import Planes
from ssl_jax.augment.planes import each
from ssl_jax.augment.spaces import mix

SEVERITIES = (1, 2, 3, 4, 5)
REFERENCE = 224  # pixels, side of the images of ImageNet-C


class Corruption(NamedTuple):
    """A corruption, and its strength at each severity."""

    change: Callable[[Planes, jax.Array, jax.Array], Planes]  # planes [H, W] in [0, 1], strength, PRNG key
    strengths: tuple[float, ...]


def noisy(function: Callable) -> Callable:
    """Returns a corruption that applies a function of a plane, the strength and a key to each plane."""

    def change(image, strength, key):
        return each(lambda plane, key: function(plane, strength, key), image, tuple(jax.random.split(key, 3)))

    return change


def gaussian_noise(plane: jax.Array, strength: jax.Array, key: jax.Array) -> jax.Array:
    return plane + strength * jax.random.normal(key, plane.shape)


def speckle_noise(plane: jax.Array, strength: jax.Array, key: jax.Array) -> jax.Array:
    return plane + strength * plane * jax.random.normal(key, plane.shape)


def shot_noise(plane: jax.Array, strength: jax.Array, key: jax.Array) -> jax.Array:
    """Counts of photons, `strength` of them where the image is white."""
    return jax.random.poisson(key, plane * strength).astype(plane.dtype) / strength


def impulse_noise(plane: jax.Array, strength: jax.Array, key: jax.Array) -> jax.Array:
    """Salt and pepper in a share of the values."""
    hit, salt = jax.random.uniform(key, (2, *plane.shape))
    return jnp.where(hit < strength, (salt < 0.5).astype(plane.dtype), plane)


def blur(image: Planes, strength: jax.Array, key: jax.Array) -> Planes:
    side = image[0].shape[0]
    scale = (side / REFERENCE) ** 0.5
    return augment.blur(image, strength * scale, min(round(4 * 6 * scale), side - 1))


def brightness(image: Planes, strength: jax.Array, key: jax.Array) -> Planes:
    hue, saturation, value = augment.rgb_to_hsv(image)
    return augment.hsv_to_rgb((hue, saturation, jnp.clip(value + strength, 0, 1)))


def saturation(image: Planes, strength: jax.Array, key: jax.Array) -> Planes:
    hue, old, value = augment.rgb_to_hsv(image)
    return augment.hsv_to_rgb((hue, jnp.clip(old * strength, 0, 1), value))


def contrast(image: Planes, strength: jax.Array, key: jax.Array) -> Planes:
    return each(lambda plane: (plane - plane.mean()) * strength + plane.mean(), image)


def resolution(image: Planes, strength: jax.Array, key: jax.Array) -> Planes:
    """Squares of the mean colour, as many in a row as `strength` says as a share of the side."""
    side = image[0].shape[0]
    count = jnp.maximum(jnp.round(side * strength), 1)  # of squares
    square = jnp.floor(jnp.arange(side, dtype=count.dtype) * count / side)
    together = (square[:, None] == square[None]).astype(image[0].dtype)
    mean = together / together.sum(axis=1, keepdims=True)
    return each(lambda plane: mean @ plane @ mean.T, image)


LUMINANCE, CHROMINANCE = (
    np.array(text.split(), np.float32).reshape(8, 8)
    for text in (  # ITU-T T.81, annex K.1
        """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
        18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99""",
        """17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
        99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99""",
    )
)
FREQUENCY = np.arange(8)
COSINES = np.cos((2 * FREQUENCY[None] + 1) * FREQUENCY[:, None] * np.pi / 16)
COSINES *= np.where(FREQUENCY, 0.5, 8**-0.5)[:, None]  # an orthonormal discrete cosine transform
YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])  # JFIF


def jpeg(image: Planes, strength: jax.Array, key: jax.Array) -> Planes:
    """What JPEG leaves at a quality of `strength` in [1, 100], without subsampling of colours."""
    scale = jnp.where(strength < 50, 5000 / strength, 200 - 2 * strength)
    planes = each(lambda plane, center: jnp.round(255 * plane) - center, mix(YCC, image), (128.0, 0.0, 0.0))

    def crush(plane, table):
        steps = jnp.clip(jnp.floor((table * scale + 50) / 100), 1, 255)
        height, width = plane.shape
        padded = jnp.pad(plane, ((0, -height % 8), (0, -width % 8)), mode="edge")
        blocks = padded.reshape(padded.shape[0] // 8, 8, -1, 8)
        cosines = jnp.asarray(COSINES, plane.dtype)
        waves = jnp.einsum("ik,akbl,jl->aibj", cosines, blocks, cosines)
        waves = jnp.round(waves / steps[None, :, None]) * steps[None, :, None]
        return jnp.round(jnp.einsum("ik,aibj,jl->akbl", cosines, waves, cosines)).reshape(padded.shape)[:height, :width]

    luma, *colours = map(crush, planes, (LUMINANCE, CHROMINANCE, CHROMINANCE))
    return each(lambda plane: jnp.round(plane) / 255, mix(np.linalg.inv(YCC), (luma + 128, *colours)))


CORRUPTIONS = {
    "gaussian_noise": Corruption(noisy(gaussian_noise), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": Corruption(noisy(shot_noise), (60, 25, 12, 5, 3)),
    "impulse_noise": Corruption(noisy(impulse_noise), (0.03, 0.06, 0.09, 0.17, 0.27)),
    "speckle_noise": Corruption(noisy(speckle_noise), (0.15, 0.2, 0.35, 0.45, 0.6)),
    "blur": Corruption(blur, (1, 2, 3, 4, 6)),
    "brightness": Corruption(brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": Corruption(contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "saturation": Corruption(saturation, (0.3, 0.1, 2, 5, 20)),
    "resolution": Corruption(resolution, (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg": Corruption(jpeg, (25, 18, 15, 10, 7)),
}


def corrupt(name: str, images: jax.Array, severity: jax.Array, keys: jax.Array) -> jax.Array:
    """Returns corrupted images.

    Args:
        name: of the corruption, see `CORRUPTIONS`.
        images: [B, H, W, 3], RGB in [0, 1].
        severity: int [], 1 to 5.
        keys: [B], a PRNG key for each image.
    """
    change, strengths = CORRUPTIONS[name]
    strength = jnp.asarray(strengths, images.dtype)[severity - 1]

    def one(image, key):
        return jnp.clip(augment.join(change(augment.split(image), strength, key)), 0, 1)

    return jax.vmap(one)(images, keys)
