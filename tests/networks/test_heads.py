"""Heads: the layers of the papers, and what their outputs promise."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.networks import MLP, Prototypes
from ssl_jax.numeric import path_name


def rows(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def shapes(head, width=2048):
    tree = jax.eval_shape(lambda: head.init(jax.random.key(0), jnp.zeros((2, width)), train=True))
    return {path_name(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(tree["params"])}


def test_byol_has_a_bias_in_the_hidden_layer_alone():
    assert shapes(MLP(256, 4096, hidden_bias=True)) == {
        "linear1/kernel": (2048, 4096),
        "linear1/bias": (4096,),
        "norm1/scale": (4096,),
        "norm1/bias": (4096,),
        "linear2/kernel": (4096, 256),
    }


def test_simsiam_ends_without_an_affine_map():
    params = shapes(MLP(2048, 2048, 3, last_norm="batch"))
    assert {name for name in params if name.startswith(("linear3", "norm3"))} == {"linear3/kernel"}


def test_moco_v2_has_no_norm():
    params = shapes(MLP(128, 2048, norm="none", hidden_bias=True, output_bias=True))
    assert set(params) == {"linear1/kernel", "linear1/bias", "linear2/kernel", "linear2/bias"}


def test_simclr_scales_at_the_end_but_shifts_nothing():
    params = shapes(MLP(128, 2048, last_norm="batch", last_scale=True))
    assert params["norm2/scale"] == (128,)
    assert "norm2/bias" not in params


def test_one_layer_is_a_linear_map(key):
    head, x = MLP(3, layers=1), rows(4, 5)
    variables = head.init(key, x)
    np.testing.assert_allclose(head.apply(variables, x), x @ variables["params"]["linear1"]["kernel"], rtol=1e-5)


def test_two_layers_by_hand(key):
    head, x = MLP(3, 7), rows(6, 5)
    variables = head.init(key, x)
    kernels = [np.asarray(variables["params"][name]["kernel"]) for name in ("linear1", "linear2")]
    hidden = x @ kernels[0]
    hidden = (hidden - hidden.mean(0)[None]) / np.sqrt(hidden.var(0) + 1e-5)[None]
    ours, _ = head.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(ours, np.maximum(hidden, 0) @ kernels[1], rtol=1e-4, atol=1e-5)


def test_last_norm_whitens_each_channel_over_all_views(key):
    head, x = MLP(3, 7, last_norm="batch"), rows(16, 2, 5)
    y, _ = head.apply(head.init(key, x), x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y.mean((0, 1)), np.zeros(3), atol=1e-5)
    np.testing.assert_allclose(y.std((0, 1)), np.ones(3), rtol=1e-2)


def test_normalized_rows_have_unit_length(key):
    head, x = MLP(3, 7, normalize=True, dtype="bfloat16"), rows(4, 2, 5)
    y = head.apply(head.init(key, x), x)
    np.testing.assert_allclose(np.linalg.norm(y, axis=-1), np.ones((4, 2)), rtol=1e-5)


@pytest.mark.parametrize("norm", ["group", "layer", "none"])
def test_heads_without_batch_statistics_see_rows_apart(key, norm):
    head, x = MLP(4, 8, norm=norm, groups=2, standardize=1e-8), rows(4, 5)
    variables = head.init(key, x)
    assert "batch_stats" not in variables
    np.testing.assert_allclose(
        head.apply(variables, x, train=True)[:1], head.apply(variables, x[:1]), rtol=1e-4, atol=1e-6
    )


def test_scores_of_unit_prototypes_are_cosines(key):
    head, x = Prototypes(6), rows(4, 2, 5)
    variables = head.init(key, x)
    kernel = np.asarray(variables["params"]["kernel"])
    kernel = kernel / np.linalg.norm(kernel, axis=0)
    scores = head.apply({"params": {"kernel": kernel}}, 7 * x)
    expected = (x / np.linalg.norm(x, axis=-1, keepdims=True)) @ kernel
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(scores).max() < 1.00001


def test_only_the_direction_of_a_weight_normalised_prototype_counts(key):
    head, x = Prototypes(6, "unit"), rows(4, 5)
    kernel = head.init(key, x)["params"]["kernel"]

    def scores(kernel, **length):
        return Prototypes(6, "trained" if length else "unit").apply({"params": {"kernel": kernel} | length}, x)

    stretched = kernel * jnp.arange(1.0, 7.0)[None]
    np.testing.assert_allclose(scores(stretched), scores(kernel), rtol=1e-4, atol=1e-6)
    radial = jnp.sum(jax.grad(lambda kernel: scores(kernel)[0, 0])(kernel) * kernel)
    np.testing.assert_allclose(radial, 0, atol=1e-6)
    length = jnp.arange(6.0)
    np.testing.assert_allclose(scores(stretched, length=length), scores(kernel) * length[None], rtol=1e-4, atol=1e-6)


def test_a_gelu_is_exact_and_weights_start_as_asked(key):
    head, x = MLP(3, 2000, norm="none", activation="gelu", std=0.02), rows(6, 50)
    params = head.init(key, x)["params"]
    hidden = np.asarray(x @ params["linear1"]["kernel"])
    erf = np.vectorize(math.erf)(hidden / np.sqrt(2))
    ours = head.apply({"params": params}, x)
    np.testing.assert_allclose(ours, (hidden * (1 + erf) / 2) @ params["linear2"]["kernel"], rtol=1e-3, atol=1e-6)
    kernel = np.asarray(params["linear1"]["kernel"])
    assert np.abs(kernel).max() <= 0.04001  # twice the deviation
    assert 0.016 < kernel.std() < 0.0205
