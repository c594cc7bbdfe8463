"""What SimSiam promises beyond the contract."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import toy

from ssl_jax.augment import Views
from ssl_jax.methods import METHODS

METHOD = METHODS["simsiam"](toy.network("mlp"))


def losses(method, params, state, batch):
    return toy.loss(method, params, state, batch).loss


def test_the_loss_is_that_of_the_paper_s_loop():
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    loss, outputs = losses(METHOD, params, state, toy.batch(1)), toy.outputs(METHOD, params, state, toy.batch(1))
    p, z = (np.asarray(x, np.float64) for x in (outputs.prediction, outputs.projection))
    cosine = [
        np.sum(p[:, i] * z[:, 1 - i], 1) / np.linalg.norm(p[:, i], axis=1) / np.linalg.norm(z[:, 1 - i], axis=1)
        for i in (0, 1)
    ]
    np.testing.assert_allclose(loss, -np.mean(cosine), rtol=1e-5)


def test_stopping_the_gradient_changes_the_gradient_alone():
    free = dataclasses.replace(METHOD, stop_gradient=False)
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    values, grads = zip(
        *(jax.value_and_grad(losses, argnums=1)(m, params, state, toy.batch(1)) for m in (METHOD, free)), strict=True
    )
    np.testing.assert_allclose(values[0], values[1], rtol=1e-6)
    difference = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), *grads)
    assert difference["network"]["projector"]["linear1"]["kernel"] > 1e-4
    assert difference["network"]["predictor"]["linear1"]["kernel"] < 1e-6  # it is only on the side with a gradient


def test_the_loss_is_symmetric_in_the_views():
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    batch = toy.batch(1)
    swapped = {"views": Views([batch["views"][0][:, ::-1]])}
    np.testing.assert_allclose(losses(METHOD, params, state, batch), losses(METHOD, params, state, swapped), rtol=1e-5)
