"""What I-JEPA promises beyond the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.augment import Views
from ssl_jax.method import Variables, apply
from ssl_jax.methods import METHODS
from ssl_jax.networks import Decoder, Network, ViT

IMAGES, SIDE, PATCH = 32, 8, 2  # patches on a side of the image, pixels on a side of a patch
ENCODER = ViT(patch=PATCH, size=SIDE * PATCH, dim=8, depth=1, heads=2, positions="sincos_columns", pool="mean")
METHOD = METHODS["ijepa"](Network(ENCODER), Decoder(dim=8, depth=1, heads=2), decay=lambda step: 0.9)
KEY = jax.random.key(3)


def batch():
    return {"views": Views([jax.random.normal(jax.random.key(0), (IMAGES, 1, SIDE * PATCH, SIDE * PATCH, 3))])}


@pytest.fixture(scope="module")
def started():
    params, state = jax.jit(METHOD.init)(jax.random.key(0), batch())
    moved = jax.tree.map(lambda x: x + 0.3 * jnp.sin(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), params)
    return moved, state


@pytest.fixture(scope="module")
def drawn():
    """The blocks and the context that the loss draws."""
    return METHOD.draw(jax.random.fold_in(KEY, 1), IMAGES, (SIDE, SIDE))


def predict(started, drawn):
    params, state = started
    blocks, context = drawn
    online = Variables(params["network"], state.stats)
    outputs, _ = apply(METHOD.network, online, batch()["views"], keep=(context[:, None],))
    return np.asarray(METHOD.predict(params, outputs.patches[0][:, 0], context, blocks, (SIDE, SIDE)))


def test_blocks_are_rectangles_and_the_context_is_outside_of_them(drawn):
    blocks, context = map(np.asarray, drawn)
    assert blocks.shape == (IMAGES, 4, 12)  # 4 x 3 of the 0.175 * 64 patches
    assert context.shape == (IMAGES, 64 - 4 * 12)
    shapes, corners = set(), set()
    for block in blocks.reshape(-1, 12):
        rows, columns = np.divmod(block, SIDE)
        shapes.add((np.ptp(rows) + 1, np.ptp(columns) + 1))
        corners.add((rows.min(), columns.min()))
        assert len(set(block)) == 12 and block.min() >= 0 and block.max() < SIDE * SIDE
    assert shapes == {(4, 3), (3, 4)}  # of 12 patches: rectangles
    assert max(rows for rows, _ in corners) == max(columns for _, columns in corners) == 5
    for image, targets in zip(context, blocks, strict=True):
        assert len(set(image)) == 16 and not set(image) & set(targets.ravel())


def test_the_loss_is_the_smooth_distance_to_normalised_features(started, drawn):
    params, state = started
    loss = METHOD.loss(params, state, batch(), KEY, 0).loss
    features, _ = apply(METHOD.network, state.target, batch()["views"])
    features = np.asarray(features.patches[0][:, 0], np.float64)
    mean, variance = features.mean(-1, keepdims=True), features.var(-1, keepdims=True)
    features = (features - mean) / np.sqrt(variance + 1e-5)
    prediction, blocks = predict(started, drawn), np.asarray(drawn[0])
    distance = np.stack([np.abs(prediction[i] - features[i][blocks[i]]) for i in range(IMAGES)])
    assert (distance > 1).any() and (distance < 1).any()
    expected = np.where(distance < 1, distance**2 / 2, distance - 0.5).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_a_block_is_predicted_by_itself(started, drawn):
    blocks, context = drawn
    before = predict(started, drawn)
    after = predict(started, (blocks.at[:, 1].set(blocks[:, 0]), context))
    np.testing.assert_allclose(after[:, [0, 2, 3]], before[:, [0, 2, 3]], atol=1e-5)
    np.testing.assert_allclose(after[:, 1], before[:, 0], atol=1e-5)
    assert np.abs(after[:, 1] - before[:, 1]).max() > 1e-2


def test_the_representation_is_the_target_s_which_follows_the_context_encoder(started):
    params, state = started
    result = METHOD.loss(params, state, batch(), KEY, 0)
    features = METHOD.features(params, state, batch()["views"][0][:, 0])
    np.testing.assert_allclose(result.features, features, rtol=1e-4, atol=1e-5)
    _, after = METHOD.after_step(params, result.state, None, 0)
    expected = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, state.target.params, params["network"])
    for one, other in zip(jax.tree.leaves(after.target.params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert np.abs(METHOD.features(params, after, batch()["views"][0][:, 0]) - features).max() > 1e-2
