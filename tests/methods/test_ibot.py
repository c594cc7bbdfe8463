"""iBOT: its two losses by their equations, what is hidden, and heads that see chosen patches alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ssl_jax.distillation import choose_hidden
from ssl_jax.errors import UserError
from ssl_jax.losses import hidden_weights
from ssl_jax.method import Variables, apply
from ssl_jax.methods import METHODS
from ssl_jax.networks import MLP, Network, Prototypes, ViT

HEADS = {"projector": MLP(toy.DIMENSION, layers=1), "predictor": Prototypes(toy.PROTOTYPES, "unit")}
ENCODER = ViT(patch=1, size=toy.SIZE, dim=8, depth=1, heads=2, mask_token=True)
METHOD = METHODS["ibot"](
    Network(ENCODER, **HEADS, shared_heads=True, passes="resolution"),
    decay=lambda step: 0.9,
    teacher_temperature=lambda step: 0.04,
    patch_temperature=lambda step: 0.05,
    patch_weight=0.5,
)
PATCHES = toy.SIZE**2


@pytest.fixture(scope="module")
def started():
    """A state in the middle of training."""
    params, state = jax.jit(METHOD.init)(jax.random.key(0), toy.batch())
    params = jax.tree.map(lambda x: 3 * x, params)
    target = state.target._replace(params=jax.tree.map(lambda x: 2 * x + 0.1, state.target.params))
    centers = jax.random.normal(jax.random.key(1), (2, toy.PROTOTYPES)) / 10
    return params, state._replace(target=target, center=centers[0], patch_center=centers[1])


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def test_the_losses_are_those_of_the_paper_and_both_centres_move_after_them(started):
    params, state = started
    batch = toy.batch(2, small=2)
    result = jax.jit(METHOD.loss)(params, state, batch, jax.random.key(5), jnp.int32(0))
    mask = METHOD.hidden(jax.random.fold_in(jax.random.key(5), 1), batch["views"])
    student, _ = apply(METHOD.network, Variables(params["network"], {}), batch["views"], mask=(mask, None))
    teacher, _ = apply(METHOD.network, state.target, batch["views"].large)
    mask, student, teacher, state = jax.tree.map(lambda x: np.asarray(x, np.float64), (mask, student, teacher, state))

    targets = softmax((teacher.prediction - state.center) / 0.04)
    logs = np.log(softmax(student.prediction / 0.1))
    pairs = [(a, v) for a in range(2) for v in range(4) if a != v]
    views = np.mean([-np.mean(np.sum(targets[:, a] * logs[:, v], -1)) for a, v in pairs])
    patch_targets = softmax((teacher.dense[0] - state.patch_center) / 0.05)
    entropy = -np.sum(patch_targets * np.log(softmax(student.dense[0] / 0.1)), -1)
    patches = np.mean(np.sum(entropy * mask, -1) / np.maximum(mask.sum(-1), 1))
    np.testing.assert_allclose(result.metrics["view_loss"], views, rtol=1e-3)
    np.testing.assert_allclose(result.metrics["patch_loss"], patches, rtol=1e-3)
    np.testing.assert_allclose(result.loss, views + 0.5 * patches, rtol=1e-3)
    for name, mean in (("center", teacher.prediction.mean((0, 1))), ("patch_center", teacher.dense[0].mean((0, 1, 2)))):
        expected = 0.9 * getattr(state, name) + 0.1 * mean
        np.testing.assert_allclose(getattr(result.state, name), expected, rtol=1e-3, atol=1e-5)


def test_the_teacher_sees_what_is_hidden_from_the_student_and_gets_no_gradient(started):
    params, state = started
    batch = toy.batch(2)

    @jax.jit
    def value(params, target):
        own = state._replace(target=Variables(target, {}))
        return METHOD.loss({"network": params}, own, batch, jax.random.key(5), jnp.int32(0)).loss

    student, teacher = jax.jit(jax.grad(value, (0, 1)))(params["network"], state.target.params)
    jax.tree.map(lambda x: np.testing.assert_array_equal(x, 0), teacher)
    assert np.abs(student["encoder"]["mask_token"]).max() > 0
    moved = state.target.params | {"encoder": state.target.params["encoder"] | {"mask_token": jnp.full(8, 9.0)}}
    np.testing.assert_array_equal(value(params["network"], moved), value(params["network"], state.target.params))


@pytest.mark.parametrize("mask", ["block", "random"])
def test_half_of_the_views_hide_a_share_between_the_two(mask):
    network = METHOD.network.clone(encoder=ENCODER.clone(size=14))
    method = dataclasses.replace(METHOD, network=network, mask=mask, mask_ratio=(0.2, 0.4))
    views = toy.batch()["views"]
    views = jax.tree.map(lambda x: jnp.zeros((64, 2, 14, 14, 3)), views)
    hidden = np.asarray(jax.jit(method.hidden)(jax.random.key(0), views)).mean(-1)
    assert 0.35 < np.mean(hidden > 0) < 0.65
    assert hidden.max() <= 0.4
    assert np.quantile(hidden[hidden > 0], 0.1) > 0.15
    assert 0.27 < hidden[hidden > 0].mean() < 0.31


def test_heads_that_see_the_hidden_patches_give_the_loss_of_heads_that_see_all(started):
    params, _ = started
    views = toy.batch(2, small=1)["views"]
    mask = jax.random.bernoulli(jax.random.key(3), 0.3, (toy.BATCH, 2, PATCHES)).at[0, 0].set(False)
    variables = Variables(params["network"], {})
    every, _ = apply(METHOD.network, variables, views, mask=(mask, None))
    assert [x.shape[2] for x in every.dense] == [PATCHES, PATCHES]  # the toy's small views are as large
    costs = every.dense[0][..., 0]
    for together in (1, 2):
        rows = mask.reshape(toy.BATCH // together, -1, PATCHES)
        chosen, weights = choose_hidden(rows, int(rows.sum((1, 2)).max()))
        some, _ = apply(METHOD.network, variables, views, mask=(mask, None), chosen=(chosen, None))
        assert some.dense[0].shape == (*chosen.shape, toy.PROTOTYPES)
        expected = np.sum(hidden_weights(mask) * costs)
        np.testing.assert_allclose(np.sum(weights * some.dense[0][..., 0]), expected, rtol=1e-4)
        np.testing.assert_allclose(np.sum(weights), np.mean(np.any(mask, -1)), rtol=1e-5)
        np.testing.assert_allclose(some.prediction, every.prediction, rtol=1e-4, atol=1e-6)


def test_wrong_networks_and_ratios_are_named():
    for network, message in (
        (METHOD.network.clone(encoder=toy.Linear()), "network.encoder.mask_token=true"),
        (METHOD.network.clone(shared_heads=False), "set network.shared_heads=true, or network.dense"),
        (METHOD.network.clone(passes="view"), "set network.passes=resolution"),
        (METHOD.network.clone(predictor=None), "set network.predictor.name=prototypes"),
    ):
        with pytest.raises(UserError, match=message):
            dataclasses.replace(METHOD, network=network).check(toy.batch())
    with pytest.raises(UserError, match=r"method.mask_ratio is \(0.5, 0.1\)"):
        dataclasses.replace(METHOD, mask_ratio=(0.5, 0.1)).check(toy.batch())
    with pytest.raises(UserError, match=r"set network.projector and leave out network.dense"):
        METHOD.network.clone(dense=MLP(3)).init(jax.random.key(0), toy.batch()["views"])
