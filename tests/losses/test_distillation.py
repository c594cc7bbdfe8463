"""Self-distillation losses: closed forms, and what they need not store."""

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.losses import centered_softmax, cross_views, hidden_weights, koleo, soft_cross_entropy


def test_a_target_has_the_given_odds_after_its_centre_is_taken_off():
    center = jnp.asarray([0.3, -0.2, 0.0])
    odds = jnp.asarray([[1.0, 2.0, 5.0], [1.0, 1.0, 1.0]])
    scores = center[None] + 0.04 * jnp.log(odds)
    np.testing.assert_allclose(centered_softmax(scores, center, 0.04), odds / odds.sum(1, keepdims=True), rtol=1e-4)


def test_the_cross_entropy_of_targets_with_themselves_is_their_entropy():
    targets = jnp.asarray([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1]])
    scores = 7.0 + 0.1 * jnp.log(targets)
    expected = -np.sum(targets * np.log(targets), axis=1)
    np.testing.assert_allclose(soft_cross_entropy(targets, scores, 0.1), expected, rtol=1e-4)


def test_weights_of_hidden_patches_make_views_count_alike():
    mask = jnp.asarray([[[True, True, False, False], [False] * 4], [[True] * 4, [False, False, False, True]]])
    expected = [[[0.5, 0.5, 0, 0], [0] * 4], [[0.25] * 4, [0, 0, 0, 1.0]]]
    np.testing.assert_allclose(hidden_weights(mask), np.asarray(expected) / 4, rtol=1e-6)


def test_koleo_of_a_regular_polygon_is_the_log_of_its_side():
    for corners in (3, 8):
        angle = 2 * np.pi * np.arange(corners) / corners
        points = jnp.asarray(3 * np.stack([np.cos(angle), np.sin(angle)], 1), jnp.float32)
        np.testing.assert_allclose(koleo(points), -np.log(2 * np.sin(np.pi / corners)), rtol=1e-4, atol=1e-6)


def test_koleo_of_equal_points_is_finite_and_its_gradient_moves_neighbours_apart():
    value, gradient = jax.value_and_grad(koleo)(jnp.ones((4, 8), jnp.bfloat16))
    assert np.isfinite(value) and np.isfinite(gradient).all()
    points = jnp.asarray([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.0]])
    moved = points - 0.01 * jax.grad(koleo)(points)
    assert moved[0, 1] > 0.1 and moved[1, 1] < -0.1


def test_log_probabilities_and_pairs_of_views_are_not_stored():
    """With 2 + 8 views and many prototypes, the gradient needs one more array of the size of the scores."""
    images, views, prototypes = 4, 10, 4096
    scores = jax.ShapeDtypeStruct((images, views, prototypes), jnp.float32)
    targets = jax.ShapeDtypeStruct((images, 2, prototypes), jnp.float32)

    def loss(scores, targets):
        return cross_views(soft_cross_entropy(targets[:, :, None], scores[:, None], 0.1))

    options = {"xla_backend_optimization_level": 3}
    compiled = jax.jit(jax.grad(loss)).lower(scores, targets).compile(options)
    assert compiled.memory_analysis().temp_size_in_bytes < 1.1 * 4 * images * views * prototypes
