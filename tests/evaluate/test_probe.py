"""The online probe learns within a few hundred steps at any scale of the features, without a gradient into them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.evaluate import probe

DIM, CLASSES, BATCH = 32, 5, 64


def batches(key, steps, scale=1.0, offset=0.0):
    centres = jax.random.normal(jax.random.key(9), (CLASSES, DIM))
    for step in range(steps):
        one, two = jax.random.split(jax.random.fold_in(key, step))
        labels = jax.random.randint(one, (BATCH,), 0, CLASSES)
        features = centres[labels] + 0.7 * jax.random.normal(two, (BATCH, DIM))
        yield scale * (features + offset), labels


def train(key, steps=200, **options):
    state = probe.init(key, DIM, CLASSES)
    update = jax.jit(probe.update)
    for features, labels in batches(key, steps, **options):
        state, metrics = update(state, features, labels)
    return state, metrics


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-4, 0.0), (1e4, 0.0), (1.0, 30.0)])
def test_learns_in_two_hundred_steps_at_any_scale(key, scale, offset):
    state, metrics = train(key, scale=scale, offset=offset)
    features, labels = next(batches(jax.random.key(1), 1, scale=scale, offset=offset))
    assert jnp.mean(probe.predict(state, features) == labels) > 0.95
    assert metrics["probe_loss"] < 0.3


def test_first_loss_is_that_of_a_guess(key):
    state = probe.init(key, DIM, CLASSES)
    _, metrics = probe.update(state, *next(batches(key, 1)))
    np.testing.assert_allclose(metrics["probe_loss"], np.log(CLASSES), rtol=0.05)


def test_standardises_by_the_running_statistics(key):
    """After a few batches the bias-corrected running mean and square are weighted means over the batches."""
    state = probe.init(key, DIM, CLASSES)
    seen = []
    for features, labels in batches(key, 4, offset=3.0):
        state, _ = probe.update(state, features, labels)
        seen.append(np.asarray(features))
    weights = probe.MOMENTUM ** np.arange(3, -1, -1.0)
    weights /= weights.sum()
    mean = sum(weight * features.mean(0) for weight, features in zip(weights, seen, strict=True))
    square = sum(weight * (features**2).mean(0) for weight, features in zip(weights, seen, strict=True))
    standard = (seen[0] - mean) / np.sqrt(square - mean**2)
    expected = standard @ np.asarray(state.params["kernel"]) + np.asarray(state.params["bias"])
    np.testing.assert_allclose(probe.logits(state, jnp.asarray(seen[0])), expected, rtol=2e-3, atol=2e-4)


def test_features_of_every_fourth_image_go_with_its_label(key):
    state = probe.init(key, DIM, CLASSES)
    features, labels = next(batches(key, 1))
    ours, expected = (probe.update(state, features[::4], given)[0].params for given in (labels, labels[::4]))
    np.testing.assert_array_equal(ours["kernel"], expected["kernel"])


def test_unknown_labels_are_ignored(key):
    state = probe.init(key, DIM, CLASSES)
    features, labels = next(batches(key, 1))
    some = labels.at[: BATCH // 2].set(-1)
    after, metrics = probe.update(state, features, some)
    others = features.at[: BATCH // 2].set(jnp.roll(features[: BATCH // 2], 1, 0))  # same statistics, other rows
    after_others, metrics_others = probe.update(state, others, some)
    np.testing.assert_allclose(after.params["kernel"], after_others.params["kernel"], atol=1e-6)
    np.testing.assert_allclose(metrics["probe_loss"], metrics_others["probe_loss"], rtol=1e-6)
    _, none = probe.update(state, features, jnp.full_like(labels, -1))
    assert none["probe_loss"] == 0


def test_no_gradient_reaches_the_encoder(key):
    state = probe.init(key, DIM, CLASSES)
    features, labels = next(batches(key, 1))
    gradient = jax.grad(lambda features: probe.update(state, features, labels)[1]["probe_loss"])(features)
    np.testing.assert_array_equal(gradient, 0)


def test_state_keeps_its_tree_and_stays_finite_for_dead_features(key):
    state = probe.init(key, DIM, CLASSES)
    after, metrics = probe.update(state, jnp.zeros((BATCH, DIM), jnp.bfloat16), jnp.zeros(BATCH, jnp.int32))
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == shapes
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((after, metrics)))
    assert np.isfinite(probe.logits(after, jnp.ones((1, DIM)))).all()
