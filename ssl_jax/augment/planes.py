"""An image as three planes (red, green, blue), each [H, W]: the form every operation of this package works on.

A crop or blur of a plane is `rows @ plane @ columns.T`, and colour arithmetic runs along the long axis; on [H, W, 3]
the same operations are several times slower on a CPU.
"""

import jax
import jax.numpy as jnp

Planes = tuple[jax.Array, jax.Array, jax.Array]


def split(image: jax.Array) -> Planes:
    """[..., H, W, 3] -> three [..., H, W]."""
    return image[..., 0], image[..., 1], image[..., 2]


def join(planes: Planes) -> jax.Array:
    """Three [..., H, W] -> [..., H, W, 3]."""
    return jnp.stack(planes, axis=-1)


def each(function, *images: tuple) -> Planes:
    """Applies a function plane by plane."""
    return jax.tree.map(function, *images)
