"""What CLIP promises beyond the contract, with both losses and with one transformer."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ssl_jax.errors import UserError
from ssl_jax.language import embed_text, patch_similarity
from ssl_jax.method import Variables
from ssl_jax.methods.clip import CLIP
from ssl_jax.networks import MLP, Network, ViT

METHOD = CLIP(toy.network(), toy.TEXT)
SIGMOID = dataclasses.replace(METHOD, objective="sigmoid")
ENCODER = ViT(patch=2, size=toy.SIZE, dim=8, depth=1, heads=2)
SHARED = CLIP(Network(ENCODER, MLP(toy.DIMENSION, layers=1)), toy.TEXT.clone(depth=0))


def started(method):
    return jax.jit(method.init)(jax.random.key(0), toy.captioned())


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("method", [METHOD, SIGMOID], ids=["softmax", "sigmoid"])
def test_the_loss_is_that_of_the_paper_for_each_view(method):
    params, state = started(method)
    result = toy.loss(method, params, state, toy.captioned(1))
    images = unit(toy.outputs(method, params, state, toy.captioned(1)).projection)
    text = unit(toy.TEXT.apply({"params": params["text"]}, toy.captioned(1)["text"]))
    each = []
    for view in range(toy.VIEWS):
        logits = images[:, view] @ text.T
        if method is METHOD:
            p = np.exp(logits / 0.07)
            each.append(-np.log(np.diag(p) ** 2 / p.sum(0) / p.sum(1)).mean() / 2)
        else:
            sign = 2 * np.eye(toy.BATCH) - 1
            each.append(np.log1p(np.exp(-sign * (10 * logits - 10))).sum() / toy.BATCH)
    np.testing.assert_allclose(result.loss, np.mean(each), rtol=1e-4)


@pytest.mark.parametrize(("log", "expected"), [(9.0, math.log(100)), (-1.0, 0.0), (3.0, 3.0)])
def test_the_scale_stays_between_1_and_100(log, expected):
    params, state = started(METHOD)
    params["scale"]["log"] = jnp.float32(log)
    after, _ = METHOD.after_step(params, state, None, jnp.int32(0))
    np.testing.assert_allclose(after["scale"]["log"], expected, rtol=1e-6)


def test_first_scales():
    scales = [{name: float(x) for name, x in started(method)[0]["scale"].items()} for method in (METHOD, SIGMOID)]
    assert scales == [{"log": pytest.approx(2.6593, abs=1e-4)}, {"log": pytest.approx(math.log(10)), "bias": -10}]


def test_texts_train_the_blocks_of_the_images_where_these_are_shared():
    params, _ = started(SHARED)
    assert not any(name.startswith("block") for name in params["text"])

    @jax.jit
    @jax.grad
    def gradient(params):
        embedding = embed_text(SHARED.network, SHARED.text, params, toy.captioned()["text"])
        return jnp.sum(jnp.square(embedding))

    encoder = gradient(params)["network"]["encoder"]
    assert np.abs(encoder["block1"]["linear1"]["kernel"]).max() > 0
    assert not np.any(encoder["patch"]["kernel"])


def test_patch_similarity_is_a_cosine_with_each_text():
    params, state = started(SHARED)
    images, text = toy.captioned()["views"][0][:, 0], jax.random.normal(jax.random.key(1), (3, toy.DIMENSION))
    found = patch_similarity(SHARED.network, Variables(params["network"], state.stats), images, text)
    assert found.shape == (toy.BATCH, 4, 3)
    patches = ENCODER.apply({"params": params["network"]["encoder"]}, images).patches
    expected = unit(patches @ params["network"]["projector"]["linear1"]["kernel"]) @ unit(text).T
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "without", "sentence"),
    [
        (METHOD, ("text",), "learns from captions, and the images have none; set data.source=pairs:/path"),
        (
            CLIP(toy.network(), toy.TEXT.clone(output=5)),
            (),
            "network.projector.output is 6 and text.output 5; set both",
        ),
        (CLIP(toy.network(), toy.TEXT.clone(depth=0)), (), "text.depth is 0, so texts go through the blocks"),
        (CLIP(SHARED.network, toy.TEXT.clone(depth=0, dim=12)), (), "text.dim to its dim"),
    ],
)
def test_what_does_not_fit_is_explained(method, without, sentence):
    given = {name: value for name, value in toy.captioned().items() if name not in without}
    with pytest.raises(UserError, match=sentence.replace(".", r"\.")):
        method.check(given)
