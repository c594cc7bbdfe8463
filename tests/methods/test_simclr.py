"""What SimCLR promises beyond the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import toy

from ssl_jax.methods import METHODS

METHOD = METHODS["simclr"](toy.network(), temperature=0.3)


def result_of(batch, params=None):
    first, state = METHOD.init(jax.random.key(0), toy.batch())
    return toy.loss(METHOD, params or first, state, batch)


def test_the_loss_is_that_of_the_paper_s_loop_twice():
    batch = toy.batch(1)
    result = result_of(batch)
    z = np.asarray(result.embeddings, np.float64)
    rows = z.reshape(-1, z.shape[-1])  # rows 2k and 2k + 1 are a pair
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    similarity = np.exp(rows @ rows.T / 0.3)
    total = 0.0
    for i in range(len(rows)):
        pair = i + 1 if i % 2 == 0 else i - 1
        total -= np.log(similarity[i, pair] / (similarity[i].sum() - similarity[i, i]))
    np.testing.assert_allclose(result.loss, 2 * total / len(rows), rtol=1e-5)


def test_images_that_all_look_alike_give_the_uniform_loss():
    batch = toy.batch(1)
    alike = jax.tree.map(lambda views: jnp.broadcast_to(views[:1, :1], views.shape), batch)
    result = result_of(alike)
    np.testing.assert_allclose(result.loss, 2 * np.log(2 * toy.BATCH - 1), rtol=1e-6)
    np.testing.assert_allclose(result.metrics["uniform_loss"], result.loss, rtol=1e-6)


def test_the_order_of_the_images_does_not_matter():
    batch = toy.batch(1)
    mixed = jax.tree.map(lambda views: views[::-1], batch)
    np.testing.assert_allclose(result_of(batch).loss, result_of(mixed).loss, rtol=1e-5)


def test_the_length_of_a_projection_does_not_matter():
    batch = toy.batch(1)
    params, state = METHOD.init(jax.random.key(0), batch)
    network = params["network"]
    longer = {"network": network | {"projector": jax.tree.map(lambda x: 3 * x, network["projector"])}}
    before, after = (toy.outputs(METHOD, one, state, batch) for one in (params, longer))
    assert not np.allclose(before.projection, after.projection)
    np.testing.assert_allclose(result_of(batch, params).loss, result_of(batch, longer).loss, rtol=1e-5)
