"""How far the 8 bits of an original may lie from exact arithmetic, in grey levels.

The bounds follow from what Pillow does: where it rounds (by half a level) or truncates (by one), and how much the steps
that follow amplify that. No case has a say in them.
"""

import math

import numpy as np

from ssl_jax import augment

GRAY = 0.53  # of a grey: its rounding, and Pillow's weight 0.299 of red for the 0.2989 of torchvision and ours


def chroma(image) -> np.ndarray:
    """The largest less the smallest of the planes in [0, 1], in levels [H, W]."""
    return 255 * np.ptp(np.asarray(augment.join(image)), axis=-1)


def brightness(error, factor, image):
    return abs(factor) * error + 1.0


def contrast(error, factor, image):
    mean = error.mean() + GRAY + 0.5  # of the grey image, rounded again
    return abs(factor) * error + abs(1.0 - factor) * mean + 1.0


def saturation(error, factor, image):
    return (abs(factor) + abs(1.0 - factor)) * error + abs(1.0 - factor) * GRAY + 1.0


def hue(error, factor, image):
    """HSV in 8 bits: S is truncated; so is H, which loses a second of its 255 steps where it passes the 256th.

    A sixth of a turn moves a plane by up to the chroma; turning a hue magnifies a change of the colour up to 3 times.
    """
    turns = 2.0 / 255
    return 3.0 * error + 6.0 * turns * (chroma(image) + 2.0 * error) + 1.5


COLOURS = (brightness, contrast, saturation, hue)


def colours(image, factors, order) -> np.ndarray:
    """Of Pillow's colour operations, one after the other.

    Args:
      image: planes [H, W] in [0, 1], before the first operation.
      factors: of brightness, contrast, saturation and hue.
      order: which of them follow each other, by their position; any number of them.

    Returns:
      Levels [H, W, 1].
    """
    error = np.zeros(image[0].shape)
    for index in order:
        error = COLOURS[index](error, factors[index], image)
        image = augment.SEMANTICS["torchvision"][index](image, factors[index])
        image = tuple(plane.clip(0.0, 1.0) for plane in image)
    return error[..., None]


def passes(second) -> float:
    """Of a resize by Pillow, whose two passes round each; the second, a matrix [size, canvas], amplifies the first.

    Its coefficients of 22 bits are worth another hundredth of a level.
    """
    return 0.51 + 0.5 * float(np.abs(np.asarray(second)).sum(axis=1).max())


def convolution(taps, size: int) -> np.ndarray:
    """The matrix [size, size] that filters a line, beyond whose ends the outermost pixel is repeated."""
    reach = len(taps) // 2
    extended = np.pad(np.eye(size), ((reach, reach), (0, 0)), mode="edge")
    return sum(tap * extended[start : start + size] for start, tap in enumerate(taps))


def boxes(sigma: float, size: int) -> np.ndarray:
    """The matrix [size, size] of Pillow's blur: three times a box with fractional ends, of the Gaussian's variance.

    Source: Gwosdek et al. 2011, Theoretical Foundations of Gaussian Convolution by Extended Box Filtering, section 2.
    """
    variance = sigma**2 / 3
    whole = math.floor((math.sqrt(12 * variance + 1) - 1) / 2)
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    taps = np.array([part, *[1.0] * (2 * whole + 1), part])
    return np.linalg.matrix_power(convolution(taps / taps.sum(), size), 3)


def gaussian(sigma: float, size: int) -> np.ndarray:
    """The matrix [size, size] of the Gaussian itself."""
    reach = math.ceil(5 * sigma)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2) if sigma else np.ones(1)
    return convolution(taps / taps.sum(), size)


def blur(pixels, sigma: float) -> np.ndarray:
    """Of Pillow's Gaussian blur: three boxes along each axis, six roundings.

    Args:
      pixels: uint8 [H, W, 3].
      sigma: standard deviation in pixels.

    Returns:
      Levels [H, W, 1]: of two filters with weights that sum to one, the results differ by the range of the image times
      half the sum of the differences of the weights.
    """
    rows, columns = (0.5 * np.abs(boxes(sigma, n) - gaussian(sigma, n)).sum(axis=1) for n in pixels.shape[:2])
    return (3.01 + np.ptp(pixels.astype(float)) * (rows[:, None] + columns[None, :]))[..., None]
