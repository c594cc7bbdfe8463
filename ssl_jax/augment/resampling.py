"""Crop and resize as two small matrix products, whose weights are built from the box."""

import jax
import jax.numpy as jnp

from ssl_jax.augment.planes import Planes, each


def triangle(x: jax.Array) -> jax.Array:
    """The bilinear kernel at distance x >= 0, of reach 1."""
    return jnp.maximum(0.0, 1.0 - x)


def keys(x: jax.Array) -> jax.Array:
    """The bicubic kernel at distance x >= 0, a = -1/2, of reach 2 (Keys 1981, IEEE TASSP 29(6), equation 15)."""
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return jnp.where(x < 1, near, jnp.where(x < 2, far, 0.0))


KERNELS = {"bilinear": triangle, "bicubic": keys}


def weights(interval, bounds, canvas: int, size: int, method: str, antialias: bool) -> jax.Array:
    """The matrix that resizes an interval of a line to `size` pixels.

    Args:
      interval: (start, length) in pixels of the line; may be traced and need not be whole.
      bounds: (start, length) of the pixels that may be read.
      canvas: pixels of the whole line.
      size: pixels wanted.
      method: "bilinear" or "bicubic".
      antialias: widens the kernel where the interval shrinks (PIL does; tf.image.resize does not unless asked).

    Returns:
      [size, canvas], rows sum to one.
    """
    start, length = (jnp.asarray(x, float) for x in interval)
    first, count = (jnp.asarray(x, float) for x in bounds)
    scale = length / size
    center = start + (jnp.arange(size, dtype=float) + 0.5) * scale
    pixel = jnp.arange(canvas, dtype=float) + 0.5
    distance = jnp.abs(pixel[None, :] - center[:, None])
    taps = KERNELS[method](distance / jnp.maximum(scale, 1.0) if antialias else distance)
    readable = (pixel > first) & (pixel < first + count)
    taps = jnp.where(readable[None, :], taps, 0.0)
    return taps / taps.sum(axis=1, keepdims=True)


def resample(
    image: Planes, box, size: int, method: str = "bilinear", antialias: bool = True, flip=False, bounds=None
) -> Planes:
    """Cuts a box out of an image and resizes it to a square.

    Args:
      image: planes [H, W] in any range, integer or float.
      box: (top, left, height, width) on the canvas, in pixels; [4] or a tuple, may be traced and need not be whole.
      size: side of the result, in pixels.
      method, antialias: see `weights`.
      flip: whether to mirror left and right; scalar, may be traced.
      bounds: the box of the pixels that may be read. None: `box`, as if cropped first and resized then.

    Returns:
      Planes [size, size], float, in the range of the image (which bicubic overshoots at edges).
    """
    bounds = box if bounds is None else bounds
    height, width = image[0].shape
    rows = weights(box[0::2], bounds[0::2], height, size, method, antialias)
    columns = weights(box[1::2], bounds[1::2], width, size, method, antialias)
    columns = jnp.where(flip, columns[::-1], columns)
    # A TPU multiplies in bfloat16: the error stays below a grey level, and levels 0 to 255 are still copied exactly.
    return each(lambda plane: rows @ plane.astype(rows.dtype) @ columns.T, image)
