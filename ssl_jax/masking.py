"""Which patches of a view are hidden, drawn on the device; shapes do not depend on how many."""

import jax
import jax.numpy as jnp


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
