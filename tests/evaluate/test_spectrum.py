"""Known values of the measures of spread."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.evaluate.spectrum import alignment, projection_crowding, projection_std, rankme, uniformity


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_rank_of_equally_strong_directions_is_their_number(rank):
    features = jnp.eye(8)[jnp.arange(24) % rank]
    np.testing.assert_allclose(rankme(features), rank, rtol=1e-4)
    np.testing.assert_allclose(rankme(100 * features), rank, rtol=1e-4)


def test_rank_of_half_precision_and_of_nothing(key):
    features = jax.random.normal(key, (64, 8)).astype(jnp.bfloat16)
    np.testing.assert_allclose(rankme(features), rankme(features.astype(jnp.float32)))
    assert np.isfinite(rankme(jnp.zeros((4, 3))))


def test_projection_std_is_one_on_the_sphere_and_zero_when_collapsed(key):
    z = jax.random.normal(key, (500, 4, 64))
    np.testing.assert_allclose(projection_std(z), 1, atol=0.01)
    np.testing.assert_allclose(projection_std(1e-3 * z), projection_std(z), rtol=1e-5)
    assert projection_std(jnp.broadcast_to(z[0, 0], z.shape)) < 1e-5
    one_axis = jnp.eye(64)[jnp.zeros(500, int)] * jnp.sign(z[:, 0, :1])
    np.testing.assert_allclose(projection_std(one_axis), 1 / 8, rtol=0.01)  # one channel of 64 at 1: 1/64 * sqrt(64)


def test_most_rows_alike_crowd_although_outliers_keep_the_spread(key):
    z = jax.random.normal(key, (500, 4, 64))
    assert projection_crowding(z) == 0
    alike = jnp.broadcast_to(z[0, 0], z.shape)
    assert projection_crowding(alike) == 1
    outliers = jnp.where(jnp.arange(500)[:, None, None] % 8 == 0, z, alike)
    assert projection_crowding(outliers) > 0.8 and projection_std(outliers) > 0.35
    cone = alike + 0.3 * z  # as heads without a norm have it while they learn
    assert projection_crowding(cone) < 0.01 and projection_std(cone) < 0.35


def test_alignment_and_uniformity_of_opposite_points():
    x = jnp.array([[1.0, 0.0], [-1.0, 0.0]])
    np.testing.assert_allclose(alignment(x, x), 0)
    np.testing.assert_allclose(alignment(x, -x), 4)
    np.testing.assert_allclose(alignment(x, -x, power=1), 2)
    np.testing.assert_allclose(uniformity(x), -8, rtol=1e-6)
    np.testing.assert_allclose(uniformity(x, t=0.5), -2, rtol=1e-6)
