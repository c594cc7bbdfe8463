"""What SimMIM promises beyond the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.augment import Views
from ssl_jax.methods import METHODS
from ssl_jax.networks import Network, ViT

IMAGES, SIZE, PATCH, SQUARE = 4, 16, 2, 4
ENCODER = ViT(patch=PATCH, size=SIZE, dim=8, depth=1, heads=2, positions="sincos_columns", pool="mean", mask_token=True)
METHOD = METHODS["simmim"](Network(ENCODER), square=SQUARE)
KEY = jax.random.key(3)


def images():
    return jax.random.normal(jax.random.key(0), (IMAGES, SIZE, SIZE, 3))


@pytest.fixture(scope="module")
def started():
    params, state = jax.jit(METHOD.init)(jax.random.key(0), {"views": Views([images()[:, None]])})
    return jax.tree.map(lambda x: 8 * x if x.ndim > 1 else x, params), state


@pytest.fixture(scope="module")
def hidden():
    """The pixels that the loss hides, bool [B, H, W, 1]."""
    mask = np.asarray(METHOD.mask(jax.random.fold_in(KEY, 1), images()))
    return mask.reshape(IMAGES, 8, 8).repeat(PATCH, axis=1).repeat(PATCH, axis=2)[..., None]


def pixels(prediction):
    """The images that predictions [B, S, D] are put together to."""
    x = np.asarray(prediction, np.float64).reshape(IMAGES, 8, 8, PATCH, PATCH, 3)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(IMAGES, SIZE, SIZE, 3)


def predict(started, x):
    mask = METHOD.mask(jax.random.fold_in(KEY, 1), x)
    return pixels(METHOD.predict(*started, x, mask)[0])


def test_ten_of_sixteen_squares_are_hidden_as_a_whole(hidden):
    squares = hidden.reshape(IMAGES, 4, SQUARE, 4, SQUARE).mean((2, 4))
    assert set(squares.ravel()) == {0.0, 1.0}
    np.testing.assert_array_equal(squares.sum((1, 2)), np.full(IMAGES, 10))  # 0.6 of 16, rounded up
    assert len({tuple(one.ravel()) for one in squares}) == IMAGES


def test_the_loss_is_the_absolute_error_of_hidden_pixels(started, hidden):
    loss = METHOD.loss(*started, {"views": Views([images()[:, None]])}, KEY, 0).loss
    error = np.abs(predict(started, images()) - np.asarray(images(), np.float64))
    np.testing.assert_allclose(loss, (error * hidden).sum() / hidden.sum() / 3, rtol=1e-5)


def test_the_encoder_sees_visible_pixels_alone(started, hidden):
    before = predict(started, images())
    np.testing.assert_array_equal(predict(started, jnp.where(hidden, -5.0, images())), before)
    assert np.abs(predict(started, jnp.where(hidden, images(), -5.0)) - before).max() > 1e-2


def test_a_reconstruction_keeps_what_is_visible(started, hidden):
    seen, filled = METHOD.reconstruct(*started, images(), jax.random.fold_in(KEY, 1))
    np.testing.assert_array_equal(seen, np.where(hidden, 0, images()))
    np.testing.assert_allclose(filled, np.where(hidden, predict(started, images()), images()), rtol=1e-5, atol=1e-6)
