"""Masks: counts, blocks, and the numbers of the authors' loop."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.masking import block_mask, random_mask

MASKS = 512


def drawn(make, seed=0):
    return np.asarray(jax.jit(jax.vmap(make))(jax.random.split(jax.random.key(seed), MASKS)))


def test_a_random_mask_hides_exactly_as_many_anywhere():
    masks = drawn(lambda key: random_mask(key, 49, jnp.int32(12)))
    assert (masks.sum(1) == 12).all()
    assert np.abs(masks.mean(0) - 12 / 49).max() < 0.1


def loop(rng, grid, most, least):
    """The authors' loop, one block and one try after the other."""
    mask, (height, width) = np.zeros(grid, bool), grid
    while mask.sum() < most:
        left, before = most - mask.sum(), mask.sum()
        for _ in range(10):
            area, ratio = least + rng.uniform() * (left - least), math.exp(rng.uniform(math.log(0.3), -math.log(0.3)))
            high, wide = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if wide < width and high < height:
                top, first = rng.integers(0, height - high, endpoint=True), rng.integers(0, width - wide, endpoint=True)
                block = np.s_[top : top + high, first : first + wide]
                if 0 < high * wide - mask[block].sum() <= left:
                    mask[block] = True
                    break
        if mask.sum() == before:
            break
    return mask.reshape(-1)


@pytest.mark.parametrize(("grid", "most", "least"), [((14, 14), 80.6, 16), ((7, 9), 20, 4), ((8, 8), 3, 4)])
def test_block_masks_are_distributed_as_those_of_the_authors_loop(grid, most, least):
    ours = drawn(lambda key: block_mask(key, grid, jnp.float32(most), least))
    rng = np.random.default_rng(0)
    theirs = np.stack([loop(rng, grid, most, least) for _ in range(MASKS)])
    assert ours.sum(1).max() <= most
    assert ours.any(1).mean() > 0.95

    def statistics(masks):
        """Mean and deviation of the count, and how often neighbours are alike, as blocks are."""
        count, maps = masks.sum(1) / most, masks.reshape(-1, *grid)
        return count.mean(), count.std(), np.mean(maps[:, 1:] & maps[:, :-1]), np.mean(maps[:, :, 1:] & maps[:, :, :-1])

    np.testing.assert_allclose(statistics(ours), statistics(theirs), atol=0.03)
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=0.12)


def test_nothing_to_hide():
    assert not drawn(lambda key: block_mask(key, (7, 7), jnp.float32(0))).any()
