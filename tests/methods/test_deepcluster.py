"""What DeepCluster promises beyond the contract."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ssl_jax.errors import UserError
from ssl_jax.method import encode
from ssl_jax.methods import METHODS

IMAGES = 20
METHOD = METHODS["deepcluster"](toy.network(), images=IMAGES, every=4, prototypes=3, components=4)
INDEX = jnp.arange(toy.BATCH) * 2


def batch(seed):
    return toy.batch(seed, views=1) | {"index": INDEX}


def seen():
    """The state after a step that remembers, before any clustering."""
    params, state = METHOD.init(jax.random.key(0), batch(0))
    loss, state, _, features, _ = toy.loss(METHOD, params, state, batch(0))
    return params, state, loss, features


def clustered():
    params, state, _, _ = seen()
    return METHOD.after_step(params, state, jax.random.key(3), jnp.int32(3))


def test_nothing_is_learned_before_the_first_clustering_but_features_are_remembered():
    _, state, loss, features = seen()
    assert loss == 0
    np.testing.assert_allclose(state.memory[INDEX], features, rtol=1e-6)
    assert not np.delete(np.asarray(state.memory), INDEX, axis=0).any()


def test_each_clustering_labels_what_was_seen_and_starts_a_new_head():
    params, state, _, _ = seen()
    for step, due in [(0, False), (2, False), (3, True), (4, False), (7, True)]:
        after, found = METHOD.after_step(params, state, jax.random.key(step), jnp.int32(step))
        assert (int(found.assignment.max()) >= 0) == due
        assert np.array_equal(after["head"]["kernel"], params["head"]["kernel"]) != due
        jax.tree.map(np.testing.assert_array_equal, after["network"], params["network"])
    _, found = clustered()
    known = np.asarray(found.assignment) >= 0
    assert known[INDEX].all() and known.sum() == toy.BATCH
    np.testing.assert_array_equal(found.sizes, np.bincount(np.asarray(found.assignment)[INDEX], minlength=3))


def test_a_new_head_is_small_noise_without_a_bias():
    head = dataclasses.replace(METHOD, prototypes=2000).new_head(jax.random.key(1), 8)
    assert not head["bias"].any()
    np.testing.assert_allclose([head["kernel"].mean(), head["kernel"].std()], [0, 0.01], atol=3e-4)


def test_the_loss_is_that_of_clusters_drawn_evenly():
    """The cross-entropy, averaged over the images of a cluster, then over the clusters."""
    params, state = clustered()
    params["head"] = jax.tree.map(lambda x: x + jax.random.normal(jax.random.key(2), x.shape), params["head"])
    loss, _, _, features, _ = toy.loss(METHOD, params, state, batch(0), step=4)
    logits = np.asarray(features @ params["head"]["kernel"], np.float64)
    logits += np.asarray(params["head"]["bias"])
    label = np.asarray(state.assignment)[INDEX]
    terms = np.log(np.exp(logits).sum(1)) - logits[np.arange(toy.BATCH), label]
    np.testing.assert_allclose(loss, np.mean([terms[label == k].mean() for k in np.unique(label)]), rtol=1e-4)


def test_images_of_unknown_cluster_weigh_nothing():
    params, state = clustered()
    unknown = state._replace(assignment=state.assignment.at[INDEX[:3]].set(-1))
    grads = jax.grad(lambda views: toy.loss(METHOD, params, unknown, batch(0) | {"views": views}, step=4).loss)
    moved = np.abs(grads(batch(0)["views"])[0]).sum((1, 2, 3, 4))
    assert not moved[:3].any() and moved[3:].all()


def test_the_loss_falls_between_two_clusterings():
    params, state = clustered()
    step = jax.jit(jax.value_and_grad(lambda params: toy.loss(METHOD, params, state, batch(0), step=4).loss))
    losses = []
    for _ in range(30):
        loss, grads = step(params)
        params = jax.tree.map(lambda x, slope: x - 0.1 * slope, params, grads)
        losses.append(float(loss))
    assert abs(losses[0] - np.log(3)) < 0.1 and losses[-1] < 0.5 * losses[0]


def test_features_are_those_of_edges():
    params, state, _, _ = seen()
    images = batch(1)["views"][0][:, 0]
    features = METHOD.features(params, state, images)
    trained = toy.loss(METHOD, params, state, batch(1)).features
    np.testing.assert_allclose(trained, features, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(features, METHOD.features(params, state, images[..., ::-1]), rtol=1e-4, atol=1e-5)
    assert np.abs(features).max() > 1e-3
    with pytest.raises(Exception, match="shape"):
        encode(METHOD.network, METHOD.variables(params, state), images)  # colours are one plane too many


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"prototypes": 21}, "method.prototypes is 21, but there are only 20 images; lower it"),
        ({"every": 0}, "method.every is 0 steps; set it to at least 1 step"),
        ({"components": 9}, "method.components is 9, more than the 8 features; lower it to 8"),
    ],
)
def test_a_clustering_that_cannot_be(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        method = dataclasses.replace(METHOD, **changes)
        method.check(batch(0))
        method.init(jax.random.key(0), batch(0))
