"""What CAST promises beyond MoCo."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ssl_jax.errors import UserError
from ssl_jax.methods import METHODS
from ssl_jax.networks import MLP, Network

POSITIONS, CHANNELS, QUEUE = toy.SIZE**2, 8, 24


class Pixels(nn.Module):
    """Images [N, H, W, 3] -> maps [N, H, W, 8] by one matrix for every pixel, and features, their mean."""

    def __call__(self, x, train=False):
        return self.maps(x, train)[-1].mean((1, 2))

    @nn.compact
    def maps(self, x, train=False):
        return [nn.Dense(CHANNELS)(x)]


NETWORK = Network(Pixels(), projector=MLP(toy.DIMENSION, layers=2, hidden=16, norm="none"))
FIELDS = {"decay": lambda step: 0.9, "queue_size": QUEUE, "temperature": 0.3}
METHOD = METHODS["cast"](NETWORK, **FIELDS, weight=0.6)
MOCO = METHODS["moco"](NETWORK, **FIELDS)


def batch(seed=1):
    masks = jax.random.bernoulli(jax.random.key(seed + 100), 0.5, (toy.BATCH, 2, toy.SIZE, toy.SIZE))
    return toy.batch(seed) | {"masks": (masks.astype(float),)}


def with_mask(batch, view, mask):
    return batch | {"masks": (batch["masks"][0].at[:, view].set(mask),)}


def loss(params, state, batch, method=METHOD):
    return method.loss(params, state, batch, jax.random.key(0), jnp.int32(0))


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def project(params, maps):
    """The projection [B, D] of maps [B, S, C]."""
    features = maps.mean(1)[:, None]
    return NETWORK.apply({"params": params}, features, method=lambda network, x: network.projector(x, train=True))[:, 0]


def pixels(params, view):
    """The maps [B, S, C] of a view."""
    maps = NETWORK.apply({"params": params}, view, method=lambda network, x: network.encoder.maps(x)[-1])
    return maps.reshape(toy.BATCH, POSITIONS, CHANNELS)


def attention(params, target, batch):
    """Grad-CAM [B, S] by the way of the maps, as the authors' code has it but for a factor."""
    views, masks = batch["views"][0], batch["masks"][0]
    keys = unit(project(target, pixels(target, views[:, 1] * masks[:, 1, :, :, None])))
    maps = pixels(params, views[:, 0])
    score = jax.grad(lambda maps: jnp.sum(unit(project(params, maps)) * keys))
    weights = score(maps).sum(1, keepdims=True)
    cam = jnp.maximum(jnp.sum(weights * maps, axis=2), 0.0)
    cam = cam - cam.min(1, keepdims=True)
    return cam / (cam.max(1, keepdims=True) + 1e-7)


def test_value_and_gradient_are_those_of_the_way_through_the_maps():
    """Second derivatives included: the weights of the maps depend on the parameters too."""

    def explicit(params, state, batch):
        cam, mask = attention(params, state.target, batch), batch["masks"][0][:, 0].reshape(toy.BATCH, POSITIONS)
        return jnp.mean(1 - jnp.sum(unit(cam) * unit(mask), axis=1))

    random = np.random.default_rng(0)
    everything = batch(), *METHOD.init(jax.random.key(0), batch())
    wide, params, state = jax.tree.map(lambda x: np.asarray(x, np.float64), everything)
    params = jax.tree.map(lambda x: x + 0.1 * random.normal(size=x.shape), params)  # ahead of the key encoder
    with jax.enable_x64(True):
        wide, params, state = jax.tree.map(jnp.asarray, (wide, params, state))
        alone = dataclasses.replace(METHOD, weight=1.0)
        value, gradient = jax.value_and_grad(lambda params: loss(params, state, wide, alone)[0])(params)
        expected = jax.value_and_grad(explicit)(params, state, wide)
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected[1]), strict=True):
        assert one.dtype == np.float64 and np.abs(one).max() > 1e-3
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_attention_on_the_mask_costs_nothing():
    params, state = METHOD.init(jax.random.key(0), batch())
    cam = attention(params, state.target, batch()).reshape(toy.BATCH, toy.SIZE, toy.SIZE)
    _, (_, on) = loss(params, state, with_mask(batch(), 0, 0.3 * cam))
    _, (_, off) = loss(params, state, with_mask(batch(), 0, (cam == 0).astype(float)))
    np.testing.assert_allclose([on["cam_loss"], off["cam_loss"]], [0.0, 1.0], atol=1e-5)


def test_the_rest_is_moco():
    params, state = METHOD.init(jax.random.key(0), batch())
    total, (after, metrics) = loss(params, state, batch())
    moco, (moco_after, _) = loss(params, state, batch(), MOCO)
    np.testing.assert_allclose(total, 0.4 * moco + 0.6 * metrics["cam_loss"], rtol=1e-5)
    np.testing.assert_allclose(after.queue, moco_after.queue, rtol=1e-5, atol=1e-6)  # without the masked keys
    alone = dataclasses.replace(METHOD, weight=0.0)
    np.testing.assert_allclose(loss(params, state, batch(), alone)[0], moco, rtol=1e-6)


def test_attention_is_asked_for_by_the_object_alone():
    """What lies outside the mask of the key's view changes MoCo's part, and nothing else."""
    params, state = METHOD.init(jax.random.key(0), batch())
    views, outside = batch()["views"][0], 1 - batch()["masks"][0][:, 1, :, :, None]
    changed = batch() | {"views": (views.at[:, 1].add(3.0 * outside),)}
    (one, (_, before)), (other, (_, after)) = loss(params, state, batch()), loss(params, state, changed)
    np.testing.assert_allclose(before["cam_loss"], after["cam_loss"], rtol=1e-5)
    assert abs(one - other) > 1e-3
    _, (_, moved) = loss(params, state, with_mask(batch(), 1, 1 - batch()["masks"][0][:, 1]))
    assert abs(before["cam_loss"] - moved["cam_loss"]) > 1e-3


def test_an_image_without_a_mask_is_no_trouble():
    params, state = METHOD.init(jax.random.key(0), batch())
    empty = batch() | {"masks": (batch()["masks"][0].at[0].set(0.0),)}
    gradient = jax.grad(lambda params: loss(params, state, empty)[0])(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_what_is_missing_is_asked_for():
    with pytest.raises(UserError, match=r"set data\.masks=true"):
        METHOD.init(jax.random.key(0), toy.batch())
    small = {name: (arrays[0][:, :, :1, :1],) for name, arrays in batch().items()}
    with pytest.raises(UserError, match=r"more than one position; raise data\.size"):
        METHOD.init(jax.random.key(0), small)
    blind = METHODS["cast"](toy.network(), **FIELDS)
    with pytest.raises(UserError, match="looks at maps, which a Linear has not; take a ResNet"):
        blind.init(jax.random.key(0), batch())
