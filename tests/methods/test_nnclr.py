"""What NNCLR promises beyond the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import toy

from ssl_jax.methods import METHODS
from ssl_jax.numeric import as_rows

QUEUE = 16
METHOD = METHODS["nnclr"](toy.network("mlp"), temperature=0.3, queue_size=QUEUE)


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_the_loss_is_that_of_algorithm_1():
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    loss, after, *_ = toy.loss(METHOD, params, state, toy.batch(1), step=3)
    outputs = toy.outputs(METHOD, params, state, toy.batch(1))
    z, p, queue = unit(outputs.projection), unit(outputs.prediction), unit(as_rows(state.queue))

    def cross_entropy(neighbours, predictions):
        logits = neighbours @ predictions.T / 0.3
        return np.mean(np.log(np.exp(logits).sum(1)) - np.diag(logits))

    def nearest(rows):
        return queue[(rows @ queue.T).argmax(1)]

    expected = (cross_entropy(nearest(z[:, 0]), p[:, 1]) + cross_entropy(nearest(z[:, 1]), p[:, 0])) / 2
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    np.testing.assert_allclose(after.queue, np.stack([queue[: toy.BATCH], z[:, 0]]), rtol=1e-4, atol=1e-6)


def test_a_queue_of_the_own_embeddings_makes_the_other_view_s_prediction_the_positive():
    """Where the neighbour is the image itself, it is InfoNCE between an embedding and a prediction."""
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    outputs = toy.outputs(METHOD, params, state, toy.batch(1))
    z, p = unit(outputs.projection), unit(outputs.prediction)
    full = state._replace(queue=jnp.asarray(z.transpose(1, 0, 2), jnp.float32))
    loss = toy.loss(METHOD, params, full, toy.batch(1)).loss
    terms = []
    for view in (0, 1):
        logits = z[:, view] @ p[:, 1 - view].T / 0.3
        terms.append(np.mean(np.log(np.exp(logits).sum(1)) - np.diag(logits)))
    np.testing.assert_allclose(loss, np.mean(terms), rtol=1e-4)
