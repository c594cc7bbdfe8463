"""What InvaSpread promises beyond the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import toy

from ssl_jax.losses import spread_out
from ssl_jax.methods import METHODS
from ssl_jax.numeric import l2_normalize

METHOD = METHODS["invaspread"](toy.network(), temperature=0.5)


def test_the_loss_is_that_of_the_paper_s_loop():
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    loss = toy.loss(METHOD, params, state, toy.batch(1)).loss
    z = np.asarray(toy.outputs(METHOD, params, state, toy.batch(1)).projection, np.float64)
    rows = np.concatenate([z[:, 0], z[:, 1]])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    similarity, n, total = np.exp(rows @ rows.T / 0.5), len(rows), 0.0
    for i in range(n):
        share = similarity[i] / (similarity[i].sum() - similarity[i, i])
        partner = (i + n // 2) % n
        total -= np.log(share[partner]) + sum(np.log(1 - share[j]) for j in range(n) if j not in (i, partner))
    np.testing.assert_allclose(loss, total / n, rtol=1e-4)


def test_a_row_gets_its_gradient_as_an_anchor_alone():
    x = l2_normalize(jax.random.normal(jax.random.key(0), (4, 2, 3)))
    gradient = jax.grad(lambda x: spread_out(x, 0.5))(x)

    def as_anchor(row, view, x, fixed):
        """The loss of one anchor, the others being constant."""
        anchors = fixed.at[row, view].set(x)
        rows = anchors.swapaxes(0, 1).reshape(8, 3)
        i = view * 4 + row
        similarity = rows[i] @ jax.lax.stop_gradient(fixed.swapaxes(0, 1).reshape(8, 3)).T / 0.5
        log_share = similarity - jax.nn.logsumexp(similarity, where=jnp.arange(8) != i)
        partner = (i + 4) % 8
        others = (jnp.arange(8) != i) & (jnp.arange(8) != partner)
        return -(log_share[partner] + jnp.sum(jnp.log1p(-jnp.exp(log_share)), where=others)) / 8

    for row, view in np.ndindex(4, 2):
        expected = jax.grad(as_anchor, argnums=2)(row, view, x[row, view], x)
        np.testing.assert_allclose(gradient[row, view], expected, rtol=1e-4, atol=1e-6)
