"""Means over pairs of views: two views give the mean of both directions, crops add the pairs of the large ones."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.losses import cross_views, mean_over_pairs


@pytest.mark.parametrize("targets, views", [(2, 2), (1, 2), (2, 6), (3, 3)])
def test_pairs_of_one_view_with_itself_do_not_count(targets, views):
    values = np.random.default_rng(0).normal(size=(4, targets, views)).astype(np.float32)
    pairs = [(a, v) for a, v in itertools.product(range(targets), range(views)) if a != v]
    expected = np.mean([values[:, a, v] for a, v in pairs])
    np.testing.assert_allclose(cross_views(jnp.asarray(values)), expected, rtol=1e-5)
    by_pair = mean_over_pairs(pairs, lambda a, v: jnp.mean(jnp.asarray(values[:, a, v])))
    np.testing.assert_allclose(by_pair, expected, rtol=1e-5)


def test_what_a_view_says_of_itself_is_not_read():
    values = jnp.ones((3, 2, 4)).at[:, jnp.arange(2), jnp.arange(2)].set(jnp.nan)
    assert cross_views(values) == 1
