"""Which patches of an image a network sees, drawn per image; all counts are static."""

import jax
import jax.numpy as jnp


def random_order(key: jax.Array, images: int, patches: int) -> jax.Array:
    """Returns the patches of each image in random order, int [images, patches].

    Source: MAE (He et al. 2021, arXiv:2111.06377), section 3, which keeps the first.
    """
    return jnp.argsort(jax.random.uniform(key, (images, patches)), axis=1)


def random_cells(key: jax.Array, images: int, grid: tuple[int, int], side: int, count: int) -> jax.Array:
    """Masks `count` random cells of side x side patches in each image.

    Args:
        key: a PRNG key.
        images: B, their number.
        grid: (rows, columns) of an image's patches, multiples of `side`.
        side: of a cell, in patches.
        count: cells to mask in each image.

    Returns:
        bool [B, S], the patches in these cells.

    Source: SimMIM (Xie et al. 2021, arXiv:2111.09886), section 3.2.
    """
    rows, columns = grid[0] // side, grid[1] // side
    masked = random_order(key, images, rows * columns) < count  # true `count` times, since a row is a permutation
    masked = masked.reshape(images, rows, columns).repeat(side, axis=1).repeat(side, axis=2)
    return masked.reshape(images, -1)
