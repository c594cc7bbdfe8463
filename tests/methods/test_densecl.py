"""What DenseCL promises beyond the contract."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ssl_jax.losses import nearest_position
from ssl_jax.methods import METHODS
from ssl_jax.networks import MLP, Network


class Pixels(nn.Module):
    """Images [N, H, W, 3] -> maps [N, H, W, 8] by one matrix for every pixel."""

    @nn.compact
    def maps(self, x, train=False):
        return [nn.Dense(8)(x)]


NETWORK = Network(Pixels(), projector=MLP(6, layers=1), dense=MLP(6, layers=1))
METHOD = METHODS["densecl"](NETWORK, decay=lambda step: 0.9, queue_size=24, dense_from=2)


def loss_at(step, batch, method=METHOD):
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    return method.loss(params, state, batch, jax.random.key(1), jnp.int32(step))


def test_a_view_corresponds_to_itself_and_to_its_permutation():
    x = jax.random.normal(jax.random.key(0), (3, 16, 5))
    order = np.random.default_rng(0).permutation(16)
    np.testing.assert_array_equal(nearest_position(x, x), np.tile(np.arange(16), (3, 1)))
    np.testing.assert_array_equal(nearest_position(x, 2 * x[:, order]), np.tile(np.argsort(order), (3, 1)))


def test_the_dense_part_begins_when_it_is_told_to():
    batch = toy.batch(1)
    (early, _), (late, (_, metrics)) = loss_at(1, batch), loss_at(2, batch)
    np.testing.assert_allclose(late, (early + metrics["dense_loss"]) / 2, rtol=1e-5)


def test_where_pixels_lie_in_the_other_view_does_not_matter():
    """Positions find their match wherever it is: a mirrored key gives the same loss."""
    views = toy.batch(1)["views"][0]
    mirrored = views.at[:, 1].set(views[:, 1, :, ::-1])
    np.testing.assert_allclose(loss_at(5, {"views": (views,)})[0], loss_at(5, {"views": (mirrored,)})[0], rtol=1e-5)


@pytest.mark.parametrize("shuffle", [False, True])
def test_both_queues_take_the_keys_of_the_batch_in_its_order(shuffle):
    _, (state, _) = loss_at(5, toy.batch(1), dataclasses.replace(METHOD, shuffle=shuffle))
    for queue in (state.queue, state.dense_queue):
        np.testing.assert_allclose(np.linalg.norm(queue, axis=1), 1.0, rtol=1e-5)
    _, (plain, _) = loss_at(5, toy.batch(1))
    np.testing.assert_allclose(state.dense_queue[: toy.BATCH], plain.dense_queue[: toy.BATCH], rtol=1e-4, atol=1e-5)
