"""What SLIP promises beyond the contract."""

import dataclasses

import jax
import numpy as np
import pytest
import toy

from ssl_jax.augment import Views
from ssl_jax.methods.clip import CLIP
from ssl_jax.methods.slip import SLIP
from ssl_jax.networks import MLP

METHOD = SLIP(toy.network(), toy.TEXT, MLP(5, 7), weight=0.5)
PARAMS, STATE = jax.jit(METHOD.init)(jax.random.key(0), toy.captioned(views=3))


def test_the_caption_belongs_to_the_first_view_and_the_others_to_each_other():
    given = toy.captioned(1, views=3)
    result = toy.loss(METHOD, PARAMS, STATE, given)
    first = given | {"views": Views([given["views"][0][:, :1]])}
    params = {name: PARAMS[name] for name in ("network", "text", "scale")}
    clip = toy.loss(CLIP(METHOD.network, METHOD.text), params, CLIP.State({}), first)
    np.testing.assert_allclose(result.metrics["clip_loss"], clip.loss, rtol=1e-5)

    features = toy.outputs(METHOD, PARAMS, STATE, given).features[:, 1:]
    tree = {"params": PARAMS["head"], "batch_stats": STATE.head_stats}
    z = [METHOD.head.apply(tree, features[:, v], train=True, mutable=["batch_stats"])[0] for v in range(2)]
    rows = np.concatenate(z)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    p = np.exp(rows @ rows.T / 0.1) * (1 - np.eye(len(rows)))
    other = np.roll(np.arange(len(rows)), toy.BATCH)
    expected = -np.log(p[np.arange(len(rows)), other] / p.sum(1)).mean()
    np.testing.assert_allclose(result.metrics["ssl_loss"], expected, rtol=1e-4)
    np.testing.assert_allclose(result.loss, clip.loss + 0.5 * expected, rtol=1e-4)


def test_without_its_second_part_it_is_clip():
    alone = dataclasses.replace(METHOD, weight=0.0)
    grad = jax.jit(jax.grad(lambda p: toy.loss(alone, p, STATE, toy.captioned(1, views=3)).loss))(PARAMS)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(grad["head"]))
    assert np.abs(grad["text"]["projection"]["kernel"]).max() > 0


def test_the_head_s_statistics_move_once_per_view():
    state = toy.loss(METHOD, PARAMS, STATE, toy.captioned(1, views=3)).state
    moved = jax.tree.map(lambda new, old: np.abs(new - old).max(), state.head_stats, STATE.head_stats)
    assert all(change > 0 for change in jax.tree.leaves(moved))


def test_uniform_loss_is_that_of_both_parts():
    uniform = toy.loss(METHOD, PARAMS, STATE, toy.captioned(1, views=3)).metrics["uniform_loss"]
    assert float(uniform) == pytest.approx(np.log(toy.BATCH) + 0.5 * np.log(2 * toy.BATCH - 1))
