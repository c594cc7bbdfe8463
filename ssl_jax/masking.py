"""Which patches of an image are hidden or seen, drawn on the device; all shapes are static."""

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


def most_salient(salience: jax.Array, grid: tuple[int, int], side: int, count: int) -> jax.Array:
    """Chooses the `count` cells of side x side patches whose mean salience is largest.

    Args:
        salience: [..., S], of the patches, such as the attention of a class token to them.
        grid: (rows, columns) of an image's patches, multiples of `side`.
        side: of a cell, in patches.
        count: cells to choose in each image.

    Returns:
        bool [..., S], the patches in these cells.

    Source: the code of DetailCLIP (Monsefi et al. 2024, arXiv:2409.06809), whose cells halve a grid of 14 x 14.
    """
    rows, columns = grid[0] // side, grid[1] // side
    cells = salience.reshape(-1, rows, side, columns, side).mean((2, 4)).reshape(-1, rows * columns)
    place = jnp.argsort(jnp.argsort(cells, axis=1, descending=True), axis=1)  # of each cell, from the most salient
    chosen = (place < count).reshape(-1, rows, columns).repeat(side, axis=1).repeat(side, axis=2)
    return chosen.reshape(salience.shape)


def random_mask(key: jax.Array, patches: int, count: jax.Array | int) -> jax.Array:
    """Returns bool [S], S = `patches`, of which exactly `count` at random are true."""
    order = jax.random.permutation(key, patches)
    return order < count


def block_mask(
    key: jax.Array,
    grid: tuple[int, int],
    most: jax.Array | float,
    least: float = 4.0,
    aspect: float = 0.3,
    tries: int = 10,
    blocks: int = 24,
) -> jax.Array:
    """Hides rectangular blocks of patches, which may overlap, until enough are hidden.

    A block's area is uniform between `least` and the number that is still to be hidden, its ratio of height to width
    log-uniform between `aspect` and 1 / `aspect`, its place uniform. If it is as high or as wide as the grid, hides
    nothing new or more than is left, it is drawn again, `tries` times in all; if no try will do, no further block
    follows. So at most `most` patches are hidden, 95 to 99 % of them on average.

    Args:
        key: a PRNG key.
        grid: rows and columns of patches.
        most: how many patches to hide, >= 0; need not be whole.
        least: least area of a block; if fewer patches are left to hide, areas are between the two.
        aspect: of a block, in (0, 1].
        tries: for each block.
        blocks: a bound on their number, so that the loop has a fixed length; the original has none. Of thousands of
            masks none needed more than 13 on a grid of 14 x 14, or 20 on 37 x 37.

    Returns:
        bool [rows * columns].

    Source: BEiT (Bao et al. 2021, arXiv:2106.08254), Algorithm 1, as in the code of iBOT and DINOv2.
    """
    height, width = grid
    rows, columns = jnp.arange(height, dtype=jnp.float32), jnp.arange(width, dtype=jnp.float32)

    def add(carry, numbers):
        mask, going = carry
        area, ratio, top, left = numbers.T
        remaining = most - jnp.sum(mask, dtype=jnp.float32)
        area = least + area * (remaining - least)
        ratio = aspect ** (2 * ratio - 1)
        high, wide = jnp.round(jnp.sqrt(area * ratio)), jnp.round(jnp.sqrt(area / ratio))
        inside = [
            (place[None] >= start[:, None]) & (place[None] < (start + length)[:, None])
            for place, start, length in (
                (rows, jnp.floor(top * (height - high + 1)), high),
                (columns, jnp.floor(left * (width - wide + 1)), wide),
            )
        ]
        block = inside[0][:, :, None] & inside[1][:, None]  # [tries, height, width]
        new = jnp.sum(block & ~mask[None], axis=(1, 2), dtype=jnp.float32)
        fits = (high < height) & (wide < width) & (new > 0) & (new <= remaining)
        going &= jnp.any(fits)
        return (mask | (going & block[jnp.argmax(fits)]), going), None

    numbers = jax.random.uniform(key, (blocks, tries, 4))
    (mask, _), _ = jax.lax.scan(add, (jnp.zeros(grid, bool), jnp.bool_(True)), numbers)
    return mask.reshape(-1)
