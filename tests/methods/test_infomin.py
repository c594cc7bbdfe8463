"""What InfoMin promises beyond MoCo."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ssl_jax.augment import Views
from ssl_jax.errors import UserError
from ssl_jax.methods import METHODS
from ssl_jax.numeric import as_rows

PATCHES, QUEUE = 9, 24
FIELDS = {"decay": lambda step: 0.9, "queue_size": QUEUE, "temperature": 0.3}
METHOD = METHODS["infomin"](toy.network(), **FIELDS, weight=0.25)
MOCO = METHODS["moco"](toy.network(), **FIELDS)
BATCH = {"views": Views([*toy.batch(1)["views"], *toy.batch(2, views=PATCHES)["views"]], ("large", "patch"))}


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def step(method, params, state, batch=BATCH, key=0):
    return toy.loss(method, params, state, batch, key)


def test_the_rest_is_moco():
    params, state = METHOD.init(jax.random.key(0), BATCH)
    loss, after, metrics, *_ = step(METHOD, params, state)
    moco, moco_after, *_ = step(MOCO, params, state, toy.batch(1))
    np.testing.assert_allclose(loss, 0.75 * moco + 0.25 * metrics["jigsaw_loss"], rtol=1e-5)
    np.testing.assert_array_equal(after.queue, moco_after.queue)
    moved = jax.tree.map(lambda x: x + 1.0, params)
    kept, after = METHOD.after_step(moved, state, None, jnp.int32(0))
    assert kept is moved
    for old, new in zip(jax.tree.leaves(state.target), jax.tree.leaves(after.target), strict=True):
        np.testing.assert_allclose(new, old + 0.1, rtol=1e-4, atol=1e-5)


def test_patches_look_for_the_key_of_their_image_in_the_queue_before_this_step():
    """With one patch layout for all, so that the order does not matter: written out from PyContrast."""
    same = jnp.repeat(BATCH["views"][1][:, :1], PATCHES, axis=1)
    batch = {"views": Views([BATCH["views"][0], same], ("large", "patch"))}
    params, state = METHOD.init(jax.random.key(0), batch)
    _, after, metrics, *_ = step(METHOD, params, state, batch)
    features = np.asarray(toy.network().apply({"params": params["network"]}, same[:, 0], method="encode"))
    head = jax.tree.map(np.asarray, params["jigsaw"])
    layers, last = head["patch"], head["whole"]
    hidden = np.maximum(features @ layers["linear1"]["kernel"] + layers["linear1"]["bias"], 0)
    each = hidden @ layers["linear2"]["kernel"] + layers["linear2"]["bias"]
    query = unit(np.tile(each, (1, PATCHES)) @ last["kernel"] + last["bias"])
    keys = np.asarray(after.queue[0], np.float64)
    logits = (
        np.concatenate([np.sum(query * keys, 1, keepdims=True), query @ np.asarray(as_rows(state.queue)).T], 1) / 0.3
    )
    expected = np.mean(np.log(np.exp(logits).sum(1)) - logits[:, 0])
    np.testing.assert_allclose(metrics["jigsaw_loss"], expected, rtol=1e-4)


def test_the_order_of_patches_is_random_for_each_image():
    params, state = METHOD.init(jax.random.key(0), BATCH)
    losses = [float(step(METHOD, params, state, key=key).metrics["jigsaw_loss"]) for key in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    kernel = params["jigsaw"]["whole"]["kernel"]
    tied = jnp.tile(kernel[: toy.DIMENSION], (PATCHES, 1))  # every place counts alike: the order cannot matter
    whole = params["jigsaw"]["whole"] | {"kernel": tied}
    blind = params | {"jigsaw": params["jigsaw"] | {"whole": whole}}
    one, other = (step(METHOD, blind, state, key=key).metrics["jigsaw_loss"] for key in (0, 1))
    np.testing.assert_allclose(one, other, rtol=1e-5)


def test_without_patches_it_says_which_recipe_has_them():
    with pytest.raises(UserError, match=r"set augment\.recipe=infomin"):
        METHOD.check(toy.batch())


def test_a_weight_of_zero_is_moco():
    method = dataclasses.replace(METHOD, weight=0.0)
    params, state = method.init(jax.random.key(0), BATCH)
    np.testing.assert_allclose(
        step(method, params, state).loss, step(MOCO, params, state, toy.batch(1)).loss, rtol=1e-6
    )
