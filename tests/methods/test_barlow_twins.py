"""What Barlow Twins promises beyond the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import toy

from ssl_jax.losses import barlow_twins
from ssl_jax.methods import METHODS

METHOD = METHODS["barlow_twins"](toy.network(), weight=0.1, scale=0.5)


def test_the_loss_is_that_of_equations_1_and_2():
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    result = toy.loss(METHOD, params, state, toy.batch(1))
    z = np.asarray(result.embeddings, np.float64)
    z = (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5)
    total = 0.0
    for i, j in np.ndindex(toy.DIMENSION, toy.DIMENSION):
        correlation = np.mean(z[:, 0, i] * z[:, 1, j])
        total += (1 - correlation) ** 2 if i == j else 0.1 * correlation**2
    np.testing.assert_allclose(result.loss, 0.5 * total, rtol=1e-4)


def test_scale_and_offset_of_channels_do_not_matter():
    x, y = jax.random.normal(jax.random.key(0), (2, 64, 5))
    scale, offset = jnp.array([[1.0, 3.0, 0.5, 20.0, 7.0]]), jnp.array([[5.0, 0.0, -3.0, 1.0, 2.0]])
    np.testing.assert_allclose(barlow_twins(x * scale + offset, y, 0.1), barlow_twins(x, y, 0.1), rtol=1e-3)


def test_known_values():
    constant = jnp.ones((16, 7))
    np.testing.assert_allclose(barlow_twins(constant, constant, 0.1), 7.0)  # nothing in common: the dimension
    orthogonal = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    np.testing.assert_allclose(barlow_twins(orthogonal, orthogonal, 0.1), 0.0, atol=1e-8)  # equal and independent
    same = orthogonal[:, :1] * jnp.ones((1, 2))
    np.testing.assert_allclose(barlow_twins(same, same, 0.1), 0.2, rtol=1e-3)  # two equal channels
