"""What CMC promises beyond the contract."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ssl_jax.errors import UserError
from ssl_jax.memory import sample_candidates
from ssl_jax.methods import METHODS

IMAGES = 20
METHOD = METHODS["cmc"](toy.network(), images=IMAGES, channels=((0,), (1, 2), (0, 2)), temperature=0.5, negatives=0)
INDEX = np.arange(toy.BATCH, dtype=np.int32) * 2
PAIRS = list(itertools.permutations(range(3), 2))


def step(method, params, state, seed=1):
    batch = toy.batch(seed, views=1) | {"index": jnp.asarray(INDEX)}
    return toy.loss(method, params, state, batch, seed)


def test_every_view_finds_its_image_in_the_memory_of_every_other():
    params, state = METHOD.init(jax.random.key(0), toy.batch(views=1))
    loss, after, _, _, embeddings = step(METHOD, params, state)
    z = np.asarray(embeddings, np.float64)
    np.testing.assert_allclose(np.linalg.norm(z, axis=-1), 1, rtol=1e-5)
    expected = 0.0
    for i, j in PAIRS:
        logits = z[:, i] @ np.asarray(state.banks[j], np.float64)[:IMAGES].T / 0.5
        expected += np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(toy.BATCH), INDEX])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for view, (new, old) in enumerate(zip(after.banks, state.banks, strict=True)):
        moved = np.asarray(old[INDEX]) + z[:, view]
        np.testing.assert_allclose(new[INDEX], moved / np.linalg.norm(moved, axis=1, keepdims=True), rtol=1e-4)


def test_nce_draws_one_set_of_images_for_all_pairs_and_keeps_each_pair_s_first_z():
    method = dataclasses.replace(METHOD, negatives=7)
    params, first = method.init(jax.random.key(0), toy.batch(views=1))
    state = step(method, params, first, 1).state
    loss, after, _, _, embeddings = step(method, params, state, 2)
    z, drawn = np.asarray(embeddings, np.float64), sample_candidates(jax.random.key(2), INDEX, 7, IMAGES)
    expected, noise = 0.0, 7 / IMAGES
    for i, j in PAIRS:
        rows = np.asarray(state.banks[j], np.float64)[np.asarray(drawn)]
        p = np.exp(np.einsum("bd,bkd->bk", z[:, i], rows) / 0.5) / float(state.normalizers[i, j])
        expected -= np.mean(np.log(p[:, 0] / (p[:, 0] + noise)) + np.log(noise / (p[:, 1:] + noise)).sum(1))
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    used = ~np.eye(3, dtype=bool)
    assert not np.any(first.normalizers) and len(set(np.asarray(state.normalizers)[used].tolist())) == len(PAIRS)
    np.testing.assert_array_equal(after.normalizers, state.normalizers)


def test_the_softmax_over_drawn_images_is_that_of_the_same_images():
    method = dataclasses.replace(METHOD, negatives=7, softmax=True)
    params, state = method.init(jax.random.key(0), toy.batch(views=1))
    loss, after, _, _, embeddings = step(method, params, state, 2)
    z, expected = np.asarray(embeddings, np.float64), 0.0
    drawn = np.asarray(sample_candidates(jax.random.key(2), INDEX, 7, IMAGES))
    for i, j in PAIRS:
        scores = np.einsum("bd,bkd->bk", z[:, i], np.asarray(state.banks[j], np.float64)[drawn]) / 0.5
        expected += np.mean(np.log(np.exp(scores).sum(1)) - scores[:, 0])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert not np.any(after.normalizers)


def test_features_in_training_are_those_of_the_image():
    params, state = METHOD.init(jax.random.key(0), toy.batch(views=1))
    images = toy.batch(1, views=1)["views"][0][:, 0]
    expected = METHOD.features(params, state, images)
    np.testing.assert_allclose(step(METHOD, params, state).features, expected, rtol=1e-5, atol=1e-6)


def test_each_network_sees_its_own_channels_alone():
    params, state = METHOD.init(jax.random.key(0), toy.batch(views=1))
    images = toy.batch(1)["views"][0][:, 0]
    before, after = (METHOD.features(params, state, x) for x in (images, images.at[..., 1].add(1.0)))
    changed = np.any(np.asarray(before != after), axis=0).reshape(3, -1)
    assert changed[1].all() and not changed[[0, 2]].any()


@pytest.mark.parametrize("channels", [((0, 1, 2),), ((0,), ()), ((0,), (3,)), ((0,), (-1,)), (0, 1)])
def test_impossible_views_are_refused(channels):
    with pytest.raises(UserError, match=r"at least two groups of the channels 0 to 2, such as \(\(0,\),\(1,2\)\)"):
        dataclasses.replace(METHOD, channels=channels).check(toy.batch(views=1))
