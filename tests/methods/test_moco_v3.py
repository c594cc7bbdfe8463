"""What MoCo v3 promises beyond the contract."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ssl_jax.build import build
from ssl_jax.config import load
from ssl_jax.method import apply
from ssl_jax.methods import METHODS
from ssl_jax.numeric import path_name

TAU, DECAY = 0.3, 0.9
METHOD = METHODS["moco_v3"](toy.network("mlp"), decay=lambda step: DECAY + 0.01 * step.astype(float), temperature=TAU)
CONFIG = str(pathlib.Path(__file__).parents[2] / "configs" / "moco_v3.py")


def started():
    """Parameters and a state in which the key encoder lags behind."""
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    target = state.target._replace(params=jax.tree.map(lambda x: 0.8 * x + 0.1, state.target.params))
    return params, state._replace(target=target)


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def test_loss_and_gradient_are_those_of_algorithm_1():
    """Keys are constants: projections of the key encoder, without a predictor."""
    params, state = started()
    batch = toy.batch(1)
    target, _ = apply(METHOD.network, state.target, batch["views"])
    keys = np.asarray(unit(target.projection))

    def contrast(query, key):
        logits = unit(query) @ key.T / TAU
        return jnp.mean(jnp.log(jnp.exp(logits).sum(1)) - jnp.diag(logits)) * 2 * TAU

    def expected(params):
        queries = toy.outputs(METHOD, params, state, batch).prediction
        return contrast(queries[:, 0], keys[:, 1]) + contrast(queries[:, 1], keys[:, 0])

    ours = jax.jit(jax.value_and_grad(lambda params: toy.loss(METHOD, params, state, batch).loss))(params)
    theirs = jax.jit(jax.value_and_grad(expected))(params)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), ours, theirs)


def test_where_all_keys_are_as_near_it_is_the_uniform_loss():
    """2 directions of 2 tau log B: 6.65 at the paper's tau of 0.2 and batch of 4096."""
    params, state = started()
    params["network"]["predictor"] = jax.tree.map(jnp.zeros_like, params["network"]["predictor"])
    result = toy.loss(METHOD, params, state, toy.batch(1))
    np.testing.assert_allclose(result.loss, 4 * TAU * np.log(toy.BATCH), rtol=1e-5)
    np.testing.assert_allclose(result.metrics["uniform_loss"], result.loss, rtol=1e-5)


def test_the_key_encoder_is_that_of_the_paper_which_moves_it_before_the_next_step():
    params, state = started()
    _, after = METHOD.after_step(params, state, None, jnp.int32(2))
    rate = DECAY + 0.03  # of step 3
    for old, online, new in zip(
        *map(jax.tree.leaves, (state.target.params, params["network"], after.target.params)), strict=True
    ):
        np.testing.assert_allclose(new, rate * old + (1 - rate) * online, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("changes", "still"), [((), "encoder/patch/"), ([("optimizer.rules", "()")], None)])
def test_the_patch_projection_of_a_vit_is_frozen_unless_its_rule_is_taken_away(changes, still):
    tiny = [("network.encoder.dim", "12"), ("network.encoder.depth", "1"), ("optimizer.warmup", "0")]
    run = build(load(f"{CONFIG}:vit", [*tiny, *changes]))
    params = jax.tree.map(lambda x: np.ones(x.shape, np.float32), run.shapes[0])
    updates, _ = jax.jit(lambda params: run.optimizer.update(params, run.optimizer.init(params), params))(params)
    for path, update in jax.tree_util.tree_leaves_with_path(updates):
        moved = np.any(update != 0.0)
        assert moved != (still is not None and still in path_name(path)), path_name(path)
