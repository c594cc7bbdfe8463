"""What MAE promises beyond the contract."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.augment import Views
from ssl_jax.masking import random_order
from ssl_jax.methods import METHODS
from ssl_jax.networks import Decoder, Network, ViT
from ssl_jax.patches import patchify, unpatchify

IMAGES, SIZE, PATCH = 4, 8, 2
PATCHES, PIXELS, VISIBLE = 16, 12, 4
ENCODER = ViT(patch=PATCH, size=SIZE, dim=8, depth=1, heads=2, positions="sincos_columns")
METHOD = METHODS["mae"](Network(ENCODER), Decoder(dim=8, depth=1, heads=2))
KEY = jax.random.key(3)


def images(seed=0):
    return jax.random.normal(jax.random.key(seed), (IMAGES, SIZE, SIZE, 3))


def batch(x):
    return {"views": Views([x[:, None]])}


@pytest.fixture(scope="module")
def started():
    params, state = jax.jit(METHOD.init)(jax.random.key(0), batch(images()))
    # The first weights are so small that predictions hardly depend on the image.
    return jax.tree.map(lambda x: 8 * x if x.ndim > 1 else x, params), state


@pytest.fixture(scope="module")
def order():
    """The one that the loss draws."""
    return np.asarray(random_order(jax.random.fold_in(KEY, 1), IMAGES, PATCHES))


def patches_of(image):
    """The patches of an image [H, W, C], row by row."""
    tops = range(0, SIZE, PATCH)
    return [image[top : top + PATCH, left : left + PATCH].reshape(-1) for top in tops for left in tops]


@pytest.mark.parametrize("normalize", [True, False])
def test_the_loss_is_the_squared_error_of_hidden_patches(started, order, normalize):
    method = dataclasses.replace(METHOD, normalize=normalize)
    loss = method.loss(*started, batch(images()), KEY, 0).loss
    prediction = np.asarray(method.predict(*started, images(), jnp.asarray(order))[0], np.float64)
    errors = []
    for image, places, guesses in zip(np.asarray(images(), np.float64), order, prediction, strict=True):
        for place, guess in list(zip(places, guesses, strict=True))[VISIBLE:]:
            pixels = patches_of(image)[place]
            if normalize:
                pixels = (pixels - pixels.mean()) / np.sqrt(pixels.var() * PIXELS / (PIXELS - 1) + 1e-6)
            errors.append(np.mean((guess - pixels) ** 2))
    assert len(errors) == IMAGES * 12  # a ratio of 0.75
    np.testing.assert_allclose(loss, np.mean(errors), rtol=1e-5)


def test_predicting_the_mean_has_the_loss_of_normalised_pixels(started):
    params, state = started
    output = jax.tree.map(jnp.zeros_like, params["decoder"]["output"])
    blank = params | {"decoder": params["decoder"] | {"output": output}}
    result = METHOD.loss(blank, state, batch(images()), KEY, 0)
    np.testing.assert_allclose(result.loss, (PIXELS - 1) / PIXELS, rtol=1e-5)
    np.testing.assert_allclose(result.metrics["uniform_loss"], result.loss, rtol=1e-6)
    assert abs(METHOD.loss(params, state, batch(images()), KEY, 0).loss - result.loss) > 1e-2


def test_the_encoder_does_not_see_hidden_patches_and_sees_the_others(started, order):
    def prediction(x):
        return np.asarray(METHOD.predict(*started, x, jnp.asarray(order))[0])

    def changed(place):
        return (
            images().at[0].add(0.5 * unpatchify(jnp.zeros((1, PATCHES, PIXELS)).at[0, place].set(1), (4, 4), PATCH)[0])
        )

    before = prediction(images())
    np.testing.assert_array_equal(prediction(changed(order[0, VISIBLE])), before)
    after = prediction(changed(order[0, VISIBLE - 1]))
    assert np.abs(after - before)[0].max() > 1e-3
    np.testing.assert_allclose(after[1:], before[1:], atol=1e-6)


def test_a_perfect_prediction_restores_the_image_around_its_visible_patches(started):
    class Perfect(type(METHOD)):
        def predict(self, params, state, x, order, key=None):
            return jnp.take_along_axis(self.target(x), order[:, :, None], axis=1), None, None

    perfect = Perfect(METHOD.network, METHOD.decoder)
    seen, filled = perfect.reconstruct(*started, images(), KEY)
    np.testing.assert_allclose(filled, images(), atol=1e-4)
    kept = np.any(np.asarray(patchify(seen, PATCH)) != 0, axis=-1)
    np.testing.assert_array_equal(kept.sum(1), np.full(IMAGES, VISIBLE))
    assert len({tuple(row) for row in kept}) == IMAGES  # each image has its own
    same = np.repeat(kept[:, :, None], PIXELS, axis=2)
    np.testing.assert_array_equal(patchify(seen, PATCH)[same], patchify(images(), PATCH)[same])


def test_the_probe_learns_from_whole_images(started):
    x = jnp.concatenate([images(seed) for seed in range(6)])
    result = METHOD.loss(*started, batch(x), KEY, 0)
    np.testing.assert_allclose(result.features, METHOD.features(*started, x)[::8], rtol=1e-4, atol=1e-5)


def test_patches_are_read_row_by_row_and_put_back():
    x = images()
    np.testing.assert_array_equal(patchify(x, PATCH)[1], np.stack(patches_of(np.asarray(x[1]))))
    wide = x[:, :, :4]
    np.testing.assert_array_equal(unpatchify(patchify(wide, PATCH), (4, 2), PATCH), wide)
