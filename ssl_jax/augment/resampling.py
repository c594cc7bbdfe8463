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
TABLE = 1024  # distances per pixel at which TensorFlow knows its bicubic kernel


def weights(interval, bounds, canvas: int, size: int, method: str, antialias: bool) -> jax.Array:
    """The matrix that resizes an interval of a line to `size` pixels.

    With antialias it is Pillow's, torchvision's and TensorFlow's; without, TensorFlow's, which rounds the distances of
    "bicubic" to a table's (PyTorch's bicubic without antialias is another kernel, a = -3/4).

    Args:
        interval: (start, length) in pixels of the line; may be traced and need not be whole.
        bounds: (start, length) of the pixels that may be read.
        canvas: pixels of the whole line.
        size: pixels wanted.
        method: "bilinear" or "bicubic".
        antialias: widens the kernel where the interval shrinks (PIL does; tf.image.resize does not unless asked).

    Returns:
        [size, canvas], rows sum to one.

    Source: tensorflow/core/kernels/image/resize_bicubic_op.cc for the table.
    """
    start, length = (jnp.asarray(x, float) for x in interval)
    first, count = (jnp.asarray(x, float) for x in bounds)
    scale = length / size
    place = (jnp.arange(size, dtype=float) + 0.5) * scale - 0.5
    pixel = jnp.arange(canvas, dtype=float)
    # Both from the start of the interval, as if cut out first: their rounding decides the row of the table.
    distance = jnp.abs((pixel - start)[None, :] - place[:, None])
    if antialias:
        distance = distance / jnp.maximum(scale, 1.0)
    elif method == "bicubic":
        distance = jnp.round(distance * TABLE) / TABLE
    taps = KERNELS[method](distance)
    readable = (pixel + 0.5 > first) & (pixel + 0.5 < first + count)
    taps = jnp.where(readable[None, :], taps, 0.0)
    return taps / taps.sum(axis=1, keepdims=True)


def resample(
    image: Planes,
    box,
    size: int | tuple[int, int],
    method: str = "bilinear",
    antialias: bool = True,
    flip=False,
    bounds=None,
) -> Planes:
    """Cuts a box out of an image and resizes it.

    Args:
        image: planes [H, W] in any range, integer or float.
        box: (top, left, height, width) on the canvas, in pixels; [4] or a tuple, may be traced and need not be whole.
        size: (height, width) of the result in pixels, or the side of a square.
        method: see `weights`.
        antialias: likewise.
        flip: whether to mirror left and right; scalar, may be traced.
        bounds: the box of the pixels that may be read. None: `box`, as if cropped first and resized then.

    Returns:
        Planes of that size, float, in the range of the image (which bicubic overshoots at edges).
    """
    bounds = box if bounds is None else bounds
    size = (size, size) if isinstance(size, int) else size
    rows, columns = (
        weights(box[axis::2], bounds[axis::2], image[0].shape[axis], size[axis], method, antialias) for axis in (0, 1)
    )
    columns = jnp.where(flip, columns[::-1], columns)
    # A TPU multiplies in bfloat16: the error stays below a grey level, and levels 0 to 255 are still copied exactly.
    return each(lambda plane: rows @ plane.astype(rows.dtype) @ columns.T, image)
