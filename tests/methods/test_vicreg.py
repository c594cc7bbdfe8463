"""What VICReg promises beyond the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import toy

from ssl_jax.losses import covariance, variance
from ssl_jax.methods import METHODS

METHOD = METHODS["vicreg"](toy.network())


def test_the_loss_is_that_of_algorithm_1():
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    loss, _, metrics, _, embeddings = toy.loss(METHOD, params, state, toy.batch(1))
    z = np.asarray(embeddings, np.float64)
    expected = 25 * np.mean((z[:, 0] - z[:, 1]) ** 2)
    for view in (z[:, 0], z[:, 1]):
        expected += 25 * np.mean(np.maximum(0, 1 - np.sqrt(view.var(0, ddof=1) + 1e-4))) / 2
        matrix = np.cov(view.T)
        expected += (np.sum(matrix**2) - np.sum(np.diag(matrix) ** 2)) / toy.DIMENSION
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    terms = 25 * (metrics["invariance"] + metrics["variance"]) + metrics["covariance"]
    np.testing.assert_allclose(terms, loss, rtol=1e-5)


def test_a_collapsed_embedding_has_the_variance_term_of_the_table():
    np.testing.assert_allclose(variance(jnp.ones((8, 3))), 0.99, rtol=1e-5)


def test_turning_the_embedding_keeps_what_views_share_but_not_the_covariance():
    x = jax.random.normal(jax.random.key(0), (256, 2)) * jnp.array([[1.0, 3.0]])
    turn = jnp.array([[0.6, -0.8], [0.8, 0.6]])
    assert covariance(x) < 0.5 < 5 < covariance(x @ turn)
