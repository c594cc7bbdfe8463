"""What ReSSL promises beyond the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ssl_jax.augment import Views
from ssl_jax.methods import METHODS

QUEUE = 24
METHOD = METHODS["ressl"](toy.network(), decay=lambda step: 0.9, queue_size=QUEUE)


@pytest.fixture(scope="module")
def started():
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    moved = jax.tree.map(lambda x: x + 0.1 * jnp.sin(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), params)
    return moved, state


def with_view(batch, view, value):
    return {"views": Views([batch["views"][0].at[:, view].set(value)])}


def test_the_student_learns_the_distribution_of_the_target(started):
    params, state = started
    batch = toy.batch(1)
    result = toy.loss(METHOD, params, state, batch)
    student = np.asarray(toy.outputs(METHOD, params, state, batch).projection[:, 0], np.float64)
    student /= np.linalg.norm(student, axis=1, keepdims=True)
    target = {"network": state.target.params}
    teacher = np.asarray(toy.outputs(METHOD, target, state, batch).projection[:, 1], np.float64)
    teacher /= np.linalg.norm(teacher, axis=1, keepdims=True)
    queue = np.asarray(state.queue, np.float64).reshape(QUEUE, -1)
    p = np.exp(teacher @ queue.T / 0.04)
    p /= p.sum(1, keepdims=True)
    logits = student @ queue.T / 0.1
    expected = np.mean(np.sum(p * (np.log(np.exp(logits).sum(1, keepdims=True)) - logits), axis=1))
    np.testing.assert_allclose(result.loss, expected, rtol=1e-4)
    np.testing.assert_allclose(result.state.queue[0], teacher, rtol=1e-4, atol=1e-5)


def test_the_target_sees_the_second_view_alone(started):
    batch = toy.batch(1)
    queue = toy.loss(METHOD, *started, batch).state.queue
    same = toy.loss(METHOD, *started, with_view(batch, 0, 0.5)).state.queue
    other = toy.loss(METHOD, *started, with_view(batch, 1, 0.5)).state.queue
    np.testing.assert_array_equal(same, queue)
    assert np.abs(other[0] - queue[0]).max() > 1e-2


def test_the_target_gets_no_gradient_and_follows_the_student(started):
    params, state = started

    def loss(target):
        return toy.loss(METHOD, params, state._replace(target=target), toy.batch(1)).loss

    assert not any(np.any(leaf) for leaf in jax.tree.leaves(jax.grad(loss)(state.target)))
    _, after = METHOD.after_step(params, state, None, jnp.int32(0))
    expected = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, state.target.params, params["network"])
    for one, other in zip(jax.tree.leaves(after.target.params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_queue_that_is_equally_similar_to_all_gives_the_uniform_loss(started):
    params, state = started
    result = toy.loss(METHOD, params, state._replace(queue=jnp.zeros_like(state.queue)), toy.batch(1))
    np.testing.assert_allclose(result.loss, np.log(QUEUE), rtol=1e-5)
    np.testing.assert_allclose(result.metrics["uniform_loss"], result.loss, rtol=1e-6)
