"""What MoCo promises beyond the contract."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import toy

from ssl_jax.methods import METHODS

QUEUE = 24
METHOD = METHODS["moco"](toy.network(), decay=lambda step: 0.9, queue_size=QUEUE)


def step(state, params, seed, method=METHOD):
    return method.loss(params, state, toy.batch(seed), jax.random.key(seed), jnp.int32(0))


def test_the_queue_is_first_in_first_out():
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    seen = []
    for seed in range(4):
        before = state.queue
        _, (state, _) = step(state, params, seed)
        seen.insert(0, np.asarray(state.queue[: toy.BATCH]))
        np.testing.assert_array_equal(state.queue[toy.BATCH :], before[: -toy.BATCH])
    np.testing.assert_array_equal(state.queue, np.concatenate(seen[:3]))


def test_keys_have_unit_length_and_a_batch_is_not_its_own_negative():
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    np.testing.assert_allclose(np.linalg.norm(state.queue, axis=1), 1.0, rtol=1e-5)
    empty = state._replace(queue=jnp.zeros_like(state.queue))  # every negative has similarity 0
    loss, (after, metrics) = step(empty, params, 1)
    query = np.asarray(metrics["outputs"].projection[:, 0])
    query = query / np.linalg.norm(query, axis=1, keepdims=True)
    own = np.exp(np.sum(query * np.asarray(after.queue[: toy.BATCH]), 1) / METHOD.temperature)
    np.testing.assert_allclose(loss, np.mean(-np.log(own / (own + QUEUE))), rtol=1e-4)


def test_the_key_encoder_gets_no_gradient_and_follows_the_query_encoder():
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    moved = jax.tree.map(lambda x: x + 1.0, params)
    _, after = METHOD.after_step(moved, state, jnp.int32(0))
    for old, new in zip(jax.tree.leaves(state.target), jax.tree.leaves(after.target), strict=True):
        np.testing.assert_allclose(new, old + 0.1, rtol=1e-4, atol=1e-5)


def test_shuffling_keys_changes_nothing_without_batch_statistics():
    shuffled = dataclasses.replace(METHOD, shuffle=True)
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    (plain, (one, _)), (mixed, (other, _)) = step(state, params, 1), step(state, params, 1, shuffled)
    np.testing.assert_allclose(plain, mixed, rtol=1e-6)
    np.testing.assert_allclose(one.queue, other.queue, rtol=1e-5, atol=1e-6)


def test_the_symmetric_loss_adds_both_directions_and_keeps_both_keys():
    symmetric = dataclasses.replace(METHOD, symmetric=True)
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    batch = toy.batch(1)
    swapped = {"views": (batch["views"][0][:, ::-1],)}
    one, (first, _) = METHOD.loss(params, state, batch, jax.random.key(0), jnp.int32(0))
    other, (second, _) = METHOD.loss(params, state, swapped, jax.random.key(0), jnp.int32(0))
    both, (after, _) = symmetric.loss(params, state, batch, jax.random.key(0), jnp.int32(0))
    np.testing.assert_allclose(both, one + other, rtol=1e-5)
    kept = {tuple(np.round(row, 4)) for row in np.asarray(after.queue[: 2 * toy.BATCH])}
    for queue in (first.queue, second.queue):
        assert {tuple(np.round(row, 4)) for row in np.asarray(queue[: toy.BATCH])} <= kept
