"""Position embeddings: identities, Pillow as an oracle, and the invariance of sines and cosines."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ssl_jax.errors import UserError
from ssl_jax.networks.positions import RESAMPLINGS, resample, sincos, stretched


@pytest.mark.parametrize("how", RESAMPLINGS)
def test_the_own_grid_is_left_alone(how):
    table = jnp.arange(18.0).reshape(9, 2)
    np.testing.assert_array_equal(resample(table, 3, 3, how), table)


@pytest.mark.parametrize("how", RESAMPLINGS)
@pytest.mark.parametrize("grid", [(2, 3), (7, 5)])
def test_a_constant_stays_constant(how, grid):
    ours = resample(jnp.full((16, 2), 3.0), *grid, how)
    np.testing.assert_allclose(ours, np.full((grid[0] * grid[1], 2), 3.0), rtol=1e-5)


def test_bicubic_weights_by_hand():
    # half way between two points the kernel with a = -0.75 is 0.59375 near and -0.09375 far; the border repeats
    column = resample(jnp.eye(16)[:, ::4], 2, 4, "bicubic").reshape(2, 4, 4)[:, 0]
    np.testing.assert_allclose(column, [[0.5, 0.59375, -0.09375, 0], [0, -0.09375, 0.59375, 0.5]], atol=1e-6)


def test_offset_samples_as_if_the_grid_were_a_tenth_of_a_cell_longer():
    peak = jnp.zeros((8, 8)).at[4, 4].set(1.0).reshape(64, 1)
    ours = resample(peak, 6, 8, "offset").reshape(6, 8)[3, 4]
    row, column = (abs((i + 0.5) * 8 / (n + 0.1) - 0.5 - 4) for i, n in ((3, 6), (4, 8)))
    near_row, near_column = (1.25 * distance**3 - 2.25 * distance**2 + 1 for distance in (row, column))
    np.testing.assert_allclose(ours, near_row * near_column, rtol=1e-5)


@pytest.mark.parametrize("grid", [(3, 5), (4, 4), (11, 9)])
def test_antialiasing_is_that_of_pillow(grid):
    table = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    expected = Image.fromarray(table).resize(grid[::-1], Image.Resampling.BICUBIC)
    ours = resample(jnp.asarray(table.reshape(49, 1)), *grid, "antialias").reshape(grid)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_sines_and_cosines_tell_distances_alone():
    table = sincos(np.arange(4), np.arange(6), 32).reshape(4, 6, 32)
    shifted = np.einsum("rcd,rcd->rc", table[:3, :4], table[1:, 2:])  # one row down and two columns right
    np.testing.assert_allclose(shifted, np.full((3, 4), shifted[0, 0]), rtol=1e-12)
    np.testing.assert_allclose(np.sum(table * table, axis=-1), np.full((4, 6), 16), rtol=1e-12)


def test_sines_and_cosines_by_hand():
    table = sincos(np.arange(2), np.arange(3), 8).reshape(2, 3, 8)
    row, column = 1, 2
    halves = [[np.sin(t), np.sin(t / 100), np.cos(t), np.cos(t / 100)] for t in (row, column)]
    np.testing.assert_allclose(table[row, column], np.concatenate(halves), rtol=1e-12)
    other = sincos(np.arange(2), np.arange(3), 8, first="columns").reshape(2, 3, 8)
    np.testing.assert_allclose(other[row, column], np.concatenate(halves[::-1]), rtol=1e-12)


def test_stretched_coordinates_cover_the_same_length():
    np.testing.assert_array_equal(stretched(5, 5), np.arange(5))
    np.testing.assert_allclose(stretched(4, 2), [0.5, 2.5])
    np.testing.assert_allclose(stretched(2, 4), [-0.25, 0.25, 0.75, 1.25])


def test_mistakes_are_named():
    with pytest.raises(UserError, match="'bicubic'"):
        resample(jnp.zeros((4, 2)), 3, 3, "cubic")
    with pytest.raises(UserError, match="multiple of 4"):
        sincos(np.arange(2), np.arange(2), 6)
