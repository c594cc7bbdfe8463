"""Regression losses against their equations and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.losses import negative_cosine_similarity, squared_cosine_distance

X = jnp.array([[3.0, 0.0], [1.0, 1.0]])


@pytest.mark.parametrize(
    "y, distance, similarity",
    [(5 * X, 0.0, -1.0), (X @ jnp.array([[0.0, 2.0], [-2.0, 0.0]]), 2.0, 0.0), (-X, 4.0, 1.0)],
    ids=["same", "orthogonal", "opposite"],
)
def test_closed_forms(y, distance, similarity):
    np.testing.assert_allclose(squared_cosine_distance(X, y), [distance] * 2, atol=1e-6)
    np.testing.assert_allclose(negative_cosine_similarity(X, y), [similarity] * 2, atol=1e-6)


def test_byol_is_four_and_simsiam_nought_where_views_are_orthogonal():
    prediction = jnp.broadcast_to(jnp.array([[1.0, 0.0], [0.0, 1.0]]), (3, 2, 2))
    target = prediction[:, :, ::-1][:, ::-1]
    swapped = target[:, ::-1]
    np.testing.assert_allclose(2 * jnp.mean(squared_cosine_distance(prediction, swapped)), 4.0, rtol=1e-6)
    np.testing.assert_allclose(jnp.mean(negative_cosine_similarity(prediction, swapped)), 0.0, atol=1e-6)


def test_equation_2_of_byol():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 4, 3, 8)).astype(np.float32)
    expected = np.empty((4, 3))
    for i in np.ndindex(4, 3):
        expected[i] = 2 - 2 * (x[i] @ y[i]) / (np.linalg.norm(x[i]) * np.linalg.norm(y[i]))
    np.testing.assert_allclose(squared_cosine_distance(jnp.asarray(x), jnp.asarray(y)), expected, rtol=1e-4)


def test_gradient_has_no_part_along_x():
    """The length of x does not matter."""
    x, y = jnp.array([0.3, -2.0, 1.0]), jnp.array([1.0, 2.0, 0.5])
    for loss in (squared_cosine_distance, negative_cosine_similarity):
        grad = jax.grad(loss)(x, y)
        assert abs(grad @ x) < 1e-6 < jnp.abs(grad).max()
