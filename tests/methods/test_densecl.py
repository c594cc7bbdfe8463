"""What DenseCL promises beyond the contract."""

import dataclasses

import jax
import numpy as np
import pytest
import toy

from ssl_jax.augment import Views
from ssl_jax.losses import nearest_position
from ssl_jax.methods import METHODS
from ssl_jax.networks import MLP, Network
from ssl_jax.numeric import l2_normalize

NETWORK = Network(toy.Pixels(), projector=MLP(6, layers=1), dense=MLP(6, layers=1))
METHOD = METHODS["densecl"](NETWORK, decay=lambda step: 0.9, queue_size=24, dense_from=2)


def loss_at(step, batch, method=METHOD):
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    return toy.loss(method, params, state, batch, 1, step)


def test_a_view_corresponds_to_itself_and_to_its_permutation():
    x = jax.random.normal(jax.random.key(0), (3, 16, 5))
    order = np.random.default_rng(0).permutation(16)
    np.testing.assert_array_equal(nearest_position(x, x), np.tile(np.arange(16), (3, 1)))
    np.testing.assert_array_equal(nearest_position(x, 2 * x[:, order]), np.tile(np.argsort(order), (3, 1)))


def test_the_dense_part_begins_when_it_is_told_to():
    batch = toy.batch(1)
    early, late = loss_at(1, batch), loss_at(2, batch)
    np.testing.assert_allclose(late.loss, (early.loss + late.metrics["dense_loss"]) / 2, rtol=1e-5)


def test_where_pixels_lie_in_the_other_view_does_not_matter():
    """Positions find their match wherever it is: a mirrored key gives the same loss."""
    views = toy.batch(1)["views"][0]
    mirrored = views.at[:, 1].set(views[:, 1, :, ::-1])
    plain, other = (loss_at(5, {"views": Views([x])}).loss for x in (views, mirrored))
    np.testing.assert_allclose(plain, other, rtol=1e-5)


def test_features_in_training_are_those_of_the_first_view():
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    expected = METHOD.features(params, state, toy.batch(1)["views"][0][:, 0])
    np.testing.assert_allclose(loss_at(5, toy.batch(1)).features, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shuffle", [False, True])
def test_both_queues_take_the_keys_of_the_batch_in_its_order(shuffle):
    params, first = METHOD.init(jax.random.key(0), toy.batch())
    state = loss_at(5, toy.batch(1), dataclasses.replace(METHOD, shuffle=shuffle)).state
    found = toy.outputs(METHOD, params, first, toy.batch(1))  # the key encoder starts as the query encoder
    keys = found.projection[:, 1], found.dense[0][:, 1].mean(1)
    for queue, before, key in zip(state[2:], first[2:], keys, strict=True):
        np.testing.assert_allclose(np.linalg.norm(queue, axis=-1), 1.0, rtol=1e-5)
        np.testing.assert_allclose(queue[5 % 3], l2_normalize(key), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(queue[:2], before[:2])
