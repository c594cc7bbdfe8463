"""Bounds on the error of 8-bit originals, relative to exact arithmetic, in grey levels.

The bounds follow from what Pillow does: where it rounds (by half a level) or truncates (by one), and how much later
steps amplify that. They are not fitted to the cases.
"""

import math

import numpy as np

from ssl_jax import augment

GRAY = 0.53  # of a grey: its rounding, and Pillow's weight 0.299 of red for the 0.2989 of torchvision and ours


def chroma(image) -> np.ndarray:
    """Returns the largest minus the smallest of the planes in [0, 1], in levels [H, W]."""
    return 255 * np.ptp(np.asarray(augment.join(image)), axis=-1)


def brightness(error, factor, image):
    return abs(factor) * error + 1.0


def contrast(error, factor, image):
    mean = error.mean() + GRAY + 0.5  # of the grey image, rounded again
    return abs(factor) * error + abs(1.0 - factor) * mean + 1.0


def saturation(error, factor, image):
    return (abs(factor) + abs(1.0 - factor)) * error + abs(1.0 - factor) * GRAY + 1.0


def hue(error, factor, image):
    """Bound for HSV in 8 bits: S is truncated, and so is H, which loses a second of its 255 steps if it wraps around.

    A sixth of a turn changes a plane by up to the chroma; rotating the hue amplifies a change of colour up to 3 times.
    """
    turns = 2.0 / 255
    return 3.0 * error + 6.0 * turns * (chroma(image) + 2.0 * error) + 1.5


COLOURS = (brightness, contrast, saturation, hue)


def colours(image, factors, order) -> np.ndarray:
    """Bound for a sequence of Pillow's colour operations.

    Args:
        image: planes [H, W] in [0, 1], before the first operation.
        factors: the factors of brightness, contrast, saturation and hue.
        order: the sequence of operations, by their position in `factors`; of any length.

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
    """Bound for a resize by Pillow, which rounds after both passes; the second, [size, canvas], amplifies the first.

    Its coefficients of 22 bits add a hundredth of a level.
    """
    return 0.51 + 0.5 * float(np.abs(np.asarray(second)).sum(axis=1).max())


def convolution(taps, size: int) -> np.ndarray:
    """Returns the matrix [size, size] that filters a line whose outermost pixels are repeated beyond its ends."""
    reach = len(taps) // 2
    extended = np.pad(np.eye(size), ((reach, reach), (0, 0)), mode="edge")
    return sum(tap * extended[start : start + size] for start, tap in enumerate(taps))


def boxes(sigma: float, size: int) -> np.ndarray:
    """Returns the matrix [size, size] of Pillow's blur: a box with fractional ends, three times, of the same variance.

    Source: Gwosdek et al. 2011, Theoretical Foundations of Gaussian Convolution by Extended Box Filtering, section 2.
    """
    variance = sigma**2 / 3
    whole = math.floor((math.sqrt(12 * variance + 1) - 1) / 2)
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    taps = np.array([part, *[1.0] * (2 * whole + 1), part])
    return np.linalg.matrix_power(convolution(taps / taps.sum(), size), 3)


def gaussian(sigma: float, size: int) -> np.ndarray:
    """Returns the matrix [size, size] of the exact Gaussian."""
    reach = math.ceil(5 * sigma)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2) if sigma else np.ones(1)
    return convolution(taps / taps.sum(), size)


def blur(pixels, sigma: float) -> np.ndarray:
    """Bound for Pillow's Gaussian blur: three boxes along each axis, with six roundings.

    Args:
        pixels: uint8 [H, W, 3].
        sigma: the standard deviation in pixels.

    Returns:
        Levels [H, W, 1]: the results of two filters whose weights sum to one differ by at most the range of the image
        times half the sum of the absolute differences of the weights.
    """
    rows, columns = (0.5 * np.abs(boxes(sigma, n) - gaussian(sigma, n)).sum(axis=1) for n in pixels.shape[:2])
    return (3.01 + np.ptp(pixels.astype(float)) * (rows[:, None] + columns[None, :]))[..., None]
