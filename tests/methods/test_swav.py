"""What SwAV promises beyond the contract."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import toy

from ssl_jax.methods import METHODS

METHOD = METHODS["swav"](toy.network("prototypes"))
QUEUED = dataclasses.replace(METHOD, queue_size=2 * toy.BATCH, queue_from=3)


def started(method=METHOD):
    return method.init(jax.random.key(0), toy.batch())


def codes(method, step, state=None, iterations=None):
    method = dataclasses.replace(method, iterations=iterations or method.iterations)
    params, first = started(method)
    scores = jax.random.uniform(jax.random.key(3), (toy.BATCH, toy.VIEWS, toy.PROTOTYPES), minval=-1.0)
    return method.codes(params, scores, (state or first).queue, jnp.int32(step))


def test_every_image_has_a_code_and_every_prototype_its_share():
    found = np.asarray(codes(METHOD, 0, iterations=200))
    np.testing.assert_allclose(found.sum(2), 1.0, rtol=1e-4)
    np.testing.assert_allclose(found.sum(0), toy.BATCH / toy.PROTOTYPES, rtol=1e-2)


def test_prototypes_stay_at_unit_length():
    params, state = started()
    for moved in (params, jax.tree.map(lambda x: 5 * x + 1, params)):
        after, _ = METHOD.after_step(moved, state, None, jnp.int32(0))
        np.testing.assert_allclose(np.linalg.norm(after["network"]["predictor"]["kernel"], axis=0), 1.0, rtol=1e-5)


def test_the_queue_counts_once_it_is_full_and_not_before():
    _, state = started(QUEUED)
    state = state._replace(queue=jax.random.normal(jax.random.key(5), state.queue.shape))
    without = np.asarray(codes(METHOD, 0))
    np.testing.assert_allclose(codes(QUEUED, 4, state), without, rtol=1e-4, atol=1e-6)
    assert np.abs(np.asarray(codes(QUEUED, 5, state)) - without).max() > 1e-3


def test_the_loss_is_that_of_the_paper_s_loop():
    params, state = METHOD.init(jax.random.key(0), toy.batch(views=3))
    loss = toy.loss(METHOD, params, state, toy.batch(2, views=3)).loss
    scores = toy.outputs(METHOD, params, state, toy.batch(2, views=3)).prediction
    targets = np.asarray(METHOD.codes(params, scores, state.queue, jnp.int32(0)))
    logits = np.asarray(scores, np.float64) / METHOD.temperature
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    pairs = [(a, v) for a in range(3) for v in range(3) if a != v]
    expected = np.mean([-np.mean(np.sum(targets[:, a] * log_p[:, v], -1)) for a, v in pairs])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
