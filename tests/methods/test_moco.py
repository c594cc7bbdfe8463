"""What MoCo promises beyond the contract."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import toy

from ssl_jax.augment import Views
from ssl_jax.methods import METHODS

QUEUE = 24
METHOD = METHODS["moco"](toy.network(), decay=lambda step: 0.9, queue_size=QUEUE)


def step(state, params, seed, method=METHOD):
    return toy.loss(method, params, state, toy.batch(seed), seed, seed)


def test_the_queue_is_first_in_first_out():
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    seen = []
    slots = QUEUE // toy.BATCH
    for seed in range(4):
        before, state = state.queue, step(state, params, seed).state
        seen.append(np.asarray(state.queue[seed % slots]))
        rest = np.delete(np.arange(slots), seed % slots)
        np.testing.assert_array_equal(state.queue[rest], before[rest])
    assert len(np.unique(seen, axis=0)) == 4
    np.testing.assert_array_equal(state.queue, np.stack([seen[3], seen[1], seen[2]]))  # the first has made room


def test_keys_have_unit_length_and_a_batch_is_not_its_own_negative():
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    np.testing.assert_allclose(np.linalg.norm(state.queue, axis=-1), 1.0, rtol=1e-5)
    empty = state._replace(queue=jnp.zeros_like(state.queue))  # every negative has similarity 0
    loss, after, _, _, embeddings = step(empty, params, 0)
    query = np.asarray(embeddings[:, 0])
    query = query / np.linalg.norm(query, axis=1, keepdims=True)
    own = np.exp(np.sum(query * np.asarray(after.queue[0]), 1) / METHOD.temperature)
    np.testing.assert_allclose(loss, np.mean(-np.log(own / (own + QUEUE))), rtol=1e-4)


def test_the_key_encoder_gets_no_gradient_and_follows_the_query_encoder():
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    moved = jax.tree.map(lambda x: x + 1.0, params)
    _, after = METHOD.after_step(moved, state, None, jnp.int32(0))
    for old, new in zip(jax.tree.leaves(state.target), jax.tree.leaves(after.target), strict=True):
        np.testing.assert_allclose(new, old + 0.1, rtol=1e-4, atol=1e-5)


def test_shuffling_keys_changes_nothing_without_batch_statistics():
    shuffled = dataclasses.replace(METHOD, shuffle=True)
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    plain, mixed = step(state, params, 1), step(state, params, 1, shuffled)
    np.testing.assert_allclose(plain.loss, mixed.loss, rtol=1e-6)
    np.testing.assert_allclose(plain.state.queue, mixed.state.queue, rtol=1e-5, atol=1e-6)


def test_the_symmetric_loss_adds_both_directions_and_keeps_both_keys():
    symmetric = dataclasses.replace(METHOD, symmetric=True)
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    batch = toy.batch(1)
    swapped = {"views": Views([batch["views"][0][:, ::-1]])}
    state = state._replace(queue=state.queue[:2])
    one, other = (toy.loss(METHOD, params, state, views) for views in (batch, swapped))
    slots = state.queue.reshape(1, 2 * toy.BATCH, toy.DIMENSION)  # the same rows, where a step pushes both keys
    both = toy.loss(symmetric, params, state._replace(queue=slots), batch)
    np.testing.assert_allclose(both.loss, one.loss + other.loss, rtol=1e-5)
    kept = {tuple(np.round(row, 4)) for row in np.asarray(both.state.queue[0])}
    for queue in (one.state.queue, other.state.queue):
        assert {tuple(np.round(row, 4)) for row in np.asarray(queue[0])} <= kept
