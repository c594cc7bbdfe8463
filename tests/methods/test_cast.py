"""What CAST promises beyond MoCo."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ssl_jax.augment import Views
from ssl_jax.errors import UserError
from ssl_jax.methods import METHODS
from ssl_jax.networks import MLP, Network

POSITIONS, QUEUE = toy.SIZE**2, 24
NETWORK = Network(toy.Pixels(), projector=MLP(toy.DIMENSION, layers=2, hidden=16, norm="none"))
FIELDS = {"decay": lambda step: 0.9, "queue_size": QUEUE, "temperature": 0.3}
METHOD = METHODS["cast"](NETWORK, **FIELDS, weight=0.6)
MOCO = METHODS["moco"](NETWORK, **FIELDS)


def batch(seed=1):
    masks = jax.random.bernoulli(jax.random.key(seed + 100), 0.5, (toy.BATCH, 2, toy.SIZE, toy.SIZE))
    return toy.batch(seed) | {"salience": (masks.astype(float),)}


def with_mask(batch, view, mask):
    return batch | {"salience": (batch["salience"][0].at[:, view].set(mask),)}


def loss(params, state, batch, method=METHOD):
    return toy.loss(method, params, state, batch)


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def project(params, maps):
    """The projection [B, D] of maps [B, S, C]."""
    features = maps.mean(1)[:, None]
    return NETWORK.apply({"params": params}, features, method=lambda network, x: network.projector(x, train=True))[:, 0]


def pixels(params, view):
    """The maps [B, S, C] of a view."""
    return NETWORK.apply({"params": params}, view, method=lambda network, x: network.encoder(x).patches)


def attention(params, target, batch):
    """Grad-CAM [B, S] by gradients with respect to the maps, as in the authors' code up to a factor."""
    views, masks = batch["views"][0], batch["salience"][0]
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
        cam = attention(params["network"], state.target.params, batch)
        mask = batch["salience"][0][:, 0].reshape(toy.BATCH, POSITIONS)
        return jnp.mean(1 - jnp.sum(unit(cam) * unit(mask), axis=1))

    random = np.random.default_rng(0)
    everything = batch(), *METHOD.init(jax.random.key(0), batch())
    wide, params, state = jax.tree.map(lambda x: np.asarray(x, np.float64), everything)
    params = jax.tree.map(lambda x: x + 0.1 * random.normal(size=x.shape), params)  # ahead of the key encoder
    with jax.enable_x64(True):
        wide, params, state = jax.tree.map(jnp.asarray, (wide, params, state))
        alone = dataclasses.replace(METHOD, weight=1.0)
        value, gradient = jax.value_and_grad(lambda params: loss(params, state, wide, alone).loss)(params)
        expected = jax.value_and_grad(explicit)(params, state, wide)
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected[1]), strict=True):
        assert one.dtype == np.float64 and np.abs(one).max() > 1e-3
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_attention_on_the_mask_costs_nothing():
    params, state = METHOD.init(jax.random.key(0), batch())
    cam = attention(params["network"], state.target.params, batch()).reshape(toy.BATCH, toy.SIZE, toy.SIZE)
    on = loss(params, state, with_mask(batch(), 0, 0.3 * cam)).metrics
    off = loss(params, state, with_mask(batch(), 0, (cam == 0).astype(float))).metrics
    np.testing.assert_allclose([on["cam_loss"], off["cam_loss"]], [0.0, 1.0], atol=1e-5)


def test_the_rest_is_moco():
    params, state = METHOD.init(jax.random.key(0), batch())
    total, after, metrics, *_ = loss(params, state, batch())
    moco, moco_after, *_ = loss(params, state, batch(), MOCO)
    np.testing.assert_allclose(total, 0.4 * moco + 0.6 * metrics["cam_loss"], rtol=1e-5)
    np.testing.assert_allclose(after.queue, moco_after.queue, rtol=1e-5, atol=1e-6)  # without the masked keys
    alone = dataclasses.replace(METHOD, weight=0.0)
    np.testing.assert_allclose(loss(params, state, batch(), alone).loss, moco, rtol=1e-6)


def test_attention_is_asked_for_by_the_object_alone():
    """Pixels outside the mask of the key's view change only MoCo's part."""
    params, state = METHOD.init(jax.random.key(0), batch())
    views, outside = batch()["views"][0], 1 - batch()["salience"][0][:, 1, :, :, None]
    changed = batch() | {"views": Views([views.at[:, 1].add(3.0 * outside)])}
    before, after = loss(params, state, batch()), loss(params, state, changed)
    np.testing.assert_allclose(before.metrics["cam_loss"], after.metrics["cam_loss"], rtol=1e-5)
    assert abs(before.loss - after.loss) > 1e-3
    moved = loss(params, state, with_mask(batch(), 1, 1 - batch()["salience"][0][:, 1]))
    assert abs(before.metrics["cam_loss"] - moved.metrics["cam_loss"]) > 1e-3


def test_an_image_without_a_mask_is_no_trouble():
    params, state = METHOD.init(jax.random.key(0), batch())
    empty = batch() | {"salience": (batch()["salience"][0].at[0].set(0.0),)}
    gradient = jax.grad(lambda params: loss(params, state, empty).loss)(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_what_is_missing_is_asked_for():
    with pytest.raises(UserError, match=r"set data\.masks=true"):
        METHOD.check(toy.batch())
    small = jax.tree.map(lambda arrays: arrays[:, :, :1, :1], batch())
    with pytest.raises(UserError, match=r"more than one position; raise data\.size"):
        METHOD.init(jax.random.key(0), small)
