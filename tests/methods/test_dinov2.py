"""DINOv2: its loss by its equations, and masks of a group whose hidden patches have a fixed bound."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ssl_jax.distillation import choose_hidden
from ssl_jax.errors import UserError
from ssl_jax.method import Variables, apply
from ssl_jax.methods import METHODS
from ssl_jax.networks import MLP, Network, Prototypes, ViT

ENCODER = ViT(patch=1, size=toy.SIZE, dim=8, depth=1, heads=2, mask_token=True, registers=2, layer_scale=0.5)
NETWORK = Network(
    ENCODER,
    MLP(toy.DIMENSION, layers=1),
    Prototypes(toy.PROTOTYPES, "trained"),
    MLP(5, layers=1),
    Prototypes(7, "trained"),
    passes="resolution",
)
METHOD = METHODS["dinov2"](
    NETWORK,
    decay=lambda step: 0.9,
    teacher_temperature=lambda step: 0.1,
    patch_weight=0.5,
    koleo_weight=0.2,
    mask_group=4,
)


@pytest.fixture(scope="module")
def started():
    """A state in the middle of training."""
    params, state = jax.jit(METHOD.init)(jax.random.key(0), toy.batch())
    params = jax.tree.map(lambda x: 3 * x, params)
    target = state.target._replace(params=jax.tree.map(lambda x: 2 * x + 0.1, state.target.params))
    centers = jax.random.normal(jax.random.key(1), (2, toy.PROTOTYPES)) / 10
    return params, state._replace(target=target, center=centers[0], patch_center=centers[1, :7])


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def balanced(scores):
    q = np.exp(scores / 0.1)
    for _ in range(3):
        q /= q.sum(0, keepdims=True)
        q /= q.sum(1, keepdims=True)
    return q


def spread(x):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    distance = np.linalg.norm(x[:, None] - x[None], axis=2)
    np.fill_diagonal(distance, 9)
    return -np.mean(np.log(distance.min(1)))


@pytest.mark.parametrize("centering", ["sinkhorn", "center"])
def test_the_loss_of_hidden_patches_alone_is_that_of_the_equations_on_all(started, centering):
    params, state = started
    method, batch = dataclasses.replace(METHOD, centering=centering), toy.batch(2, small=2)

    @jax.jit
    def compute():
        result = method.loss(params, state, batch, jax.random.key(5), jnp.int32(0))
        mask = method.hidden(jax.random.fold_in(jax.random.key(5), 1), batch["views"]).reshape(toy.BATCH, 2, -1)
        student, _ = apply(NETWORK, Variables(params["network"], {}), batch["views"], mask=(mask, None))
        teacher, _ = apply(NETWORK, state.target, batch["views"].large)
        return result, mask, student, teacher, state

    result, mask, student, teacher, old = jax.tree.map(lambda x: np.asarray(x, np.float64), compute())
    hidden, patches = mask > 0, teacher.dense[0][mask > 0]
    if centering == "sinkhorn":
        targets = balanced(teacher.prediction.reshape(-1, toy.PROTOTYPES)).reshape(teacher.prediction.shape)
        patch_targets, centers = balanced(patches), (old.center, old.patch_center)
    else:
        targets = softmax((teacher.prediction - old.center) / 0.1)
        patch_targets = softmax((patches - old.patch_center) / 0.1)
        means = teacher.prediction.mean((0, 1)), patches.mean(0)
        centers = [0.9 * c + 0.1 * mean for c, mean in zip((old.center, old.patch_center), means, strict=True)]
    logs = np.log(softmax(student.prediction / 0.1))
    pairs = [(a, v) for a in range(2) for v in range(4) if a != v]
    views = np.mean([-np.mean(np.sum(targets[:, a] * logs[:, v], -1)) for a, v in pairs])
    cost = np.zeros(mask.shape)
    cost[hidden] = -np.sum(patch_targets * np.log(softmax(student.dense[0][hidden] / 0.1)), -1)
    of_patches = np.mean(cost.sum(-1) / np.maximum(mask.sum(-1), 1))
    koleo = sum(spread(student.features[:, a]) for a in range(2))
    for name, value in {"view_loss": views, "patch_loss": of_patches, "koleo": koleo}.items():
        np.testing.assert_allclose(result.metrics[name], value, rtol=1e-3, err_msg=name)
    np.testing.assert_allclose(result.loss, views + 0.5 * of_patches + 0.2 * koleo, rtol=1e-3)
    np.testing.assert_allclose(result.state.center, centers[0], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(result.state.patch_center, centers[1], rtol=1e-3, atol=1e-5)


def test_a_group_hides_half_of_its_views_by_all_ratios_and_never_more_patches_than_its_heads_see():
    network = NETWORK.clone(encoder=ENCODER.clone(size=14))
    method = dataclasses.replace(METHOD, network=network, mask_group=8)
    views = jax.tree.map(lambda x: jnp.zeros((64, 2, 14, 14, 3)), toy.batch()["views"])
    mask = np.asarray(jax.jit(method.hidden)(jax.random.key(0), views))
    assert mask.shape == (8, 16, 196)
    share = np.sort(mask.mean(-1), axis=1)
    np.testing.assert_array_equal(share[:, :8], 0)
    ends = np.linspace(0.1, 0.5, 9)
    assert (share[:, 8:] > 0).all() and (share[:, 8:] <= ends[1:]).all()
    assert (share[:, 8:] > ends[:-1] - 0.05).mean() > 0.9  # blocks do not always fit to the last patch
    most = method.most_hidden(2, 196)
    assert 0.9 * most < mask.sum((1, 2)).max() <= most == sum(int(196 * end) for end in np.float32(ends[1:]))
    _, weights = choose_hidden(jnp.asarray(mask), most)
    np.testing.assert_allclose(weights.sum(), 0.5, rtol=1e-5)  # so no hidden patch was left out
    assert np.std(np.argmax(mask.any(-1), axis=1)) > 0  # which views these are differs


def test_wrong_groups_are_named():
    for change, message in (
        ({"mask_group": 3}, "method.mask_group is 3, which does not divide the batch of 8 images"),
        ({"mask_share": 0.1}, "of 16 patches none is ever hidden; raise method.mask_ratio"),
        ({"mask_ratio": (0.2,)}, r"method.mask_ratio is \(0.2,\)"),
    ):
        with pytest.raises(UserError, match=message):
            dataclasses.replace(METHOD, **change).check(toy.batch())
