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


def random_blocks(key: jax.Array, images: int, blocks: int, grid: tuple[int, int], shape: tuple[int, int]) -> jax.Array:
    """Draws blocks of patches anywhere in each image, each upright or lying with equal chance.

    Args:
        key: a PRNG key.
        images: B, their number.
        blocks: M, for each image.
        grid: (rows, columns) of an image's patches.
        shape: (h, w) of a block in patches; lying, it is (w, h).

    Returns:
        int [B, M, h w], the patches of each block, row by row.

    Source: I-JEPA (Assran et al. 2023, arXiv:2301.08243), section 3, with areas and proportions that do not vary.
    """
    rows, columns = grid
    turn, vertical, horizontal = jax.random.split(key, 3)
    lying = jax.random.bernoulli(turn, shape=(images, blocks))
    height, width = (jnp.where(lying, *sides) for sides in (shape[::-1], shape))
    top = jax.random.randint(vertical, lying.shape, 0, rows - height + 1)
    left = jax.random.randint(horizontal, lying.shape, 0, columns - width + 1)
    row, column = jnp.divmod(jnp.arange(shape[0] * shape[1])[None, None], width[:, :, None])
    return (top[:, :, None] + row) * columns + left[:, :, None] + column


def random_context(key: jax.Array, blocks: jax.Array, grid: tuple[int, int], side: int, count: int) -> jax.Array:
    """Draws patches from a random square of each image that are in none of its blocks.

    Args:
        key: a PRNG key.
        blocks: int [B, M, n], the patches of each block.
        grid: (rows, columns) of an image's patches.
        side: of the square, in patches.
        count: patches to draw, at most side * side - M * n.

    Returns:
        int [B, count], in random order.

    Source: I-JEPA (arXiv:2301.08243), section 3.
    """
    images, patches = len(blocks), grid[0] * grid[1]
    place, order = jax.random.split(key)
    square = random_blocks(place, images, 1, grid, (side, side))
    inside, taken = (jnp.any(x.reshape(images, -1, 1) == jnp.arange(patches)[None, None], 1) for x in (square, blocks))
    last = jnp.where(inside & ~taken, 0.0, 1.0)
    return jnp.argsort(jax.random.uniform(order, last.shape) + last, axis=1)[:, :count]
