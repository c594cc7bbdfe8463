"""Cross-entropy with label smoothing against its equation and closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.losses import cross_entropy

LOGITS = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
LABEL = np.array([0, 4, 2, 2, 1, 3])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_section_7_of_inception_v3(smoothing):
    terms = []
    for logits, label in zip(np.float64(LOGITS), LABEL, strict=True):
        target = np.full(5, smoothing / 5) + (1 - smoothing) * (np.arange(5) == label)
        terms.append(-np.sum(target * (logits - np.log(np.exp(logits).sum()))))
    np.testing.assert_allclose(cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABEL), smoothing), np.mean(terms), 1e-5)


def test_equal_logits_cost_log_c_and_certain_ones_nothing():
    np.testing.assert_allclose(cross_entropy(jnp.ones((6, 5)), jnp.asarray(LABEL), 0.3), np.log(5), rtol=1e-6)
    assert cross_entropy(100 * jnp.eye(5), jnp.arange(5)) < 1e-6


def test_views_share_the_label_of_their_image():
    views = jnp.asarray(LOGITS).reshape(3, 2, 5)
    label = jnp.broadcast_to(jnp.array([[1], [0], [4]]), (3, 2))
    np.testing.assert_allclose(cross_entropy(views, label), cross_entropy(views.reshape(6, 5), label.reshape(6)), 1e-6)
