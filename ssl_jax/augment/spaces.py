"""Colour spaces an image may end in: for each, the way there and back, and how values are normalised in it."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ssl_jax.augment.planes import Planes, each

Channels = tuple[float, float, float]

# To CIE XYZ from linear RGB, in units of the white of D65.
XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
XYZ /= np.array([[0.95047], [1.0], [1.08883]])
# To Y, Cb and Cr in levels of 8 bits, ITU-R BT.601.
YCBCR = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]])


def mix(matrix: np.ndarray, image: Planes) -> Planes:
    """Each plane of the result is a sum of the image's planes, weighted by a row of the matrix [3, 3]."""
    first, second, third = (
        sum(weight * plane for weight, plane in zip(row, image, strict=True)) for row in matrix.tolist()
    )
    return first, second, third


def rgb_to_lab(image: Planes) -> Planes:
    """Turns sRGB in [0, 1] into CIE Lab (D65), L in [0, 100], a and b about +-100: views of CMC (arXiv:1906.05849)."""
    linear = each(lambda c: jnp.where(c > 0.04045, ((c + 0.055) / 1.055) ** 2.4, c / 12.92), image)
    x, y, z = each(lambda t: jnp.where(t > 0.008856, jnp.cbrt(t), 7.787 * t + 16.0 / 116.0), mix(XYZ, linear))
    return 116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)


def lab_to_rgb(image: Planes) -> Planes:
    """The inverse of `rgb_to_lab`; colours that no screen can show lie outside [0, 1]."""
    light, a, b = image
    y = (light + 16.0) / 116.0
    xyz = each(lambda t: jnp.where(t > 0.20689, t**3, (t - 16.0 / 116.0) / 7.787), (y + a / 500.0, y, y - b / 200.0))
    linear = mix(np.linalg.inv(XYZ), xyz)
    return each(
        lambda c: jnp.where(c > 0.0031308, 1.055 * jnp.maximum(c, 0.0031308) ** (1 / 2.4) - 0.055, 12.92 * c), linear
    )


def rgb_to_ycbcr(image: Planes) -> Planes:
    """RGB in [0, 1] -> Y in [16, 235], Cb and Cr in [16, 240] (ITU-R BT.601)."""
    y, blue, red = mix(YCBCR, image)
    return y + 16.0, blue + 128.0, red + 128.0


def ycbcr_to_rgb(image: Planes) -> Planes:
    """The inverse of `rgb_to_ycbcr`."""
    y, blue, red = image
    return mix(np.linalg.inv(YCBCR), (y - 16.0, blue - 128.0, red - 128.0))


def unchanged(image: Planes) -> Planes:
    return image


class Space(NamedTuple):
    """A colour space: the planes x of an image become (x - mean) / std in it."""

    from_rgb: Callable[[Planes], Planes]  # from sRGB in [0, 1]
    to_rgb: Callable[[Planes], Planes]
    mean: Channels
    std: Channels


SPACES = {
    "rgb": Space(unchanged, unchanged, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # of ImageNet
    # Those of CMC's authors: for Lab the middle and half the range of each channel.
    "lab": Space(rgb_to_lab, lab_to_rgb, (50.0, 6.025, -6.6895), (50.0, 92.208, 101.1675)),
    "ycbcr": Space(rgb_to_ycbcr, ycbcr_to_rgb, (116.151, 121.080, 132.342), (109.5, 111.855, 111.964)),
}
