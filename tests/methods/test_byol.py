"""What BYOL promises beyond the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import toy

from ssl_jax.augment import Views
from ssl_jax.method import apply
from ssl_jax.methods import METHODS

DECAY = 0.9
METHOD = METHODS["byol"](toy.network("mlp"), decay=lambda step: DECAY + 0.01 * step.astype(float))


def started():
    return METHOD.init(jax.random.key(0), toy.batch())


def test_the_loss_is_the_sum_of_both_directions_of_2_minus_2_cosines():
    params, state = started()
    state = state._replace(target=jax.tree.map(lambda x: x + 0.1, state.target))
    loss = toy.loss(METHOD, params, state, toy.batch(1)).loss
    online = toy.outputs(METHOD, params, state, toy.batch(1))
    target, _ = apply(METHOD.network, state.target, toy.batch(1)["views"])
    expected = 0.0
    for one, other in ((0, 1), (1, 0)):
        p, z = np.asarray(online.prediction[:, one]), np.asarray(target.projection[:, other])
        cosine = np.sum(p * z, 1) / np.linalg.norm(p, axis=1) / np.linalg.norm(z, axis=1)
        expected += np.mean(2 - 2 * cosine)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_the_target_moves_by_its_decay_and_only_after_the_step():
    params, state = started()
    moved = jax.tree.map(lambda x: x + 1.0, params)
    same = toy.loss(METHOD, moved, state, toy.batch(), step=3).state
    for old, new in zip(jax.tree.leaves(state.target), jax.tree.leaves(same.target), strict=True):
        np.testing.assert_array_equal(old, new)
    _, after = METHOD.after_step(moved, state, None, jnp.int32(3))
    rate = DECAY + 0.03
    for target, new in zip(jax.tree.leaves(state.target), jax.tree.leaves(after.target), strict=True):
        np.testing.assert_allclose(new, rate * target + (1 - rate) * (target + 1.0), rtol=1e-5, atol=1e-6)


def test_the_target_starts_as_the_online_network():
    params, state = started()
    for online, target in zip(jax.tree.leaves(params["network"]), jax.tree.leaves(state.target.params), strict=True):
        np.testing.assert_array_equal(online, target)


def test_the_order_of_the_views_does_not_matter():
    params, state = started()
    batch = toy.batch(1)
    swapped = {"views": Views([batch["views"][0][:, ::-1]])}
    losses = [toy.loss(METHOD, params, state, one).loss for one in (batch, swapped)]
    np.testing.assert_allclose(*losses, rtol=1e-6)
