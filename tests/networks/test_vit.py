"""Vision transformers: sizes from the papers, pooling, and images of any size."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.errors import UserError
from ssl_jax.networks import ENCODERS, ViT, minimum_size
from ssl_jax.networks.attention import attend
from ssl_jax.networks.transformer import Block

TINY = {"patch": 4, "size": 16, "dim": 16, "depth": 2, "heads": 2}


def images(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(*shape, 3)), jnp.float32)


def apply(model, variables, x):
    return jax.jit(model.apply)(variables, x).pooled


def random_variables(model, key):
    """Variables with positions and class token that matter, which they hardly do at the start."""
    variables = jax.jit(model.init)(key, images((1, model.size, model.size)))
    return jax.tree.map(lambda leaf: 10 * leaf if leaf.ndim < 3 else leaf, variables)


@pytest.mark.parametrize(
    ("name", "patch", "options", "parameters"),
    # timm's numbers without the classifier; the class token's position is a part of our class token
    [
        ("tiny", 16, {}, 5_524_416 - 192),
        ("small", 16, {}, 21_665_664 - 384),
        ("base", 16, {}, 85_798_656 - 768),
        ("large", 16, {}, 303_301_632 - 1024),
        ("huge", 14, {}, 630_764_800 - 1280),
        # DINOv2's, with its token for masked patches
        ("giant", 14, {"size": 518, "layer_scale": 1e-5, "mask_token": True}, 1_136_480_768 - 1536),
    ],
)
def test_parameters_number_as_published(name, patch, options, parameters):
    model = ENCODERS[f"vit_{name}"](**options)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 224, 224, 3))))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == parameters
    assert minimum_size(model) == patch


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_features_depend_on_their_own_image_alone(key, pool):
    model = ViT(**TINY, pool=pool)
    variables = random_variables(model, key)
    x = images((3, 16, 16))
    features, changed = apply(model, variables, x), apply(model, variables, x.at[1:].multiply(-3))
    np.testing.assert_allclose(features[0], changed[0], rtol=1e-4, atol=1e-5)
    assert not np.allclose(features[1], changed[1], rtol=1e-2)


@pytest.mark.parametrize("positions", ["learned", "sincos_rows", "sincos_columns"])
@pytest.mark.parametrize("shape", [(8, 8), (16, 24)])
def test_other_sizes_have_their_own_positions(key, positions, shape):
    model = ViT(**TINY, positions=positions, pool="mean")
    variables = random_variables(model, key)
    x = images((1, *shape))
    assert apply(model, variables, x).shape == (1, 16)
    # The patches in another order are another image, because of the positions.
    assert not np.allclose(apply(model, variables, x), apply(model, variables, jnp.roll(x, 4, axis=1)), rtol=1e-3)


def test_without_positions_the_order_of_patches_does_not_matter(key):
    model = ViT(**TINY, pool="mean")
    variables = jax.jit(model.init)(key, images((1, 16, 16)))
    variables["params"]["positions"] *= 0
    x = images((1, 16, 16))
    rolled = jnp.roll(x, 4, axis=2)
    np.testing.assert_allclose(apply(model, variables, x), apply(model, variables, rolled), rtol=1e-3, atol=1e-5)


def test_patches_are_read_row_by_row(key):
    model = ViT(**TINY, pool="mean", positions="sincos_rows")
    x = images((1, 16, 16))
    variables = jax.jit(model.init)(key, x)
    other = x.at[:, 4:8, 8:12].add(1.0)  # row 1, column 2 of the 4 x 4 grid
    tokens, changed = (model.apply(variables, image, method="tokens")[1][0, 0] for image in (x, other))
    np.testing.assert_array_equal(np.flatnonzero(np.abs(tokens - changed).max(-1) > 1e-3), [6])


def test_attention_sums_to_one(key):
    model = ViT(**TINY)
    x = images((2, 16, 16))
    weights = model.apply(random_variables(model, key), x, method="attention")
    assert weights.shape == (2, 2, 17, 17)
    np.testing.assert_allclose(weights.sum(-1), np.ones((2, 2, 17)), rtol=1e-5)


@pytest.mark.parametrize("options", [{"registers": 3}, {"pool": "mean", "registers": 2}])
def test_what_a_patch_gets_of_the_attention(key, options):
    """Of the class token or, without one, of the patches, but not of registers, nor what these get."""
    model, x = ViT(**TINY, **options), images((2, 16, 16))
    variables = random_variables(model, key)
    weights, found = (
        np.asarray(jax.jit(functools.partial(model.apply, block=0, method=method))(variables, x))
        for method in ("attention", "attended")
    )
    queries = [0] if "pool" not in options else range(weights.shape[2] - 16, weights.shape[2])
    expected = np.mean([weights[:, :, query, -16:] for query in queries], axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_padding_is_not_attended_to(key):
    rows = jax.random.normal(key, (3, 2, 6, 2, 8))  # queries, keys and values of 2 images with 6 tokens
    expected = attend([x[:, :5] for x in rows], 5)
    np.testing.assert_allclose(attend(rows, 5)[:, :5], expected, atol=1e-6)
    assert np.abs(attend(rows, 6)[:, :5] - expected).max() > 1e-2


@pytest.mark.parametrize("mlp", ["gelu", "swiglu"])
def test_one_loop_over_the_blocks_computes_what_they_do_one_after_the_other(key, mlp):
    variables = random_variables(ViT(**TINY, mlp=mlp), key)

    def gradient(scan):
        model = ViT(**TINY, mlp=mlp, scan_blocks=scan)
        return jax.jit(jax.grad(lambda v: jnp.sin(apply(model, v, images((2, 16, 16)))).sum()))(variables)

    chex.assert_trees_all_close(gradient(True), gradient(False), rtol=1e-4, atol=1e-3)  # entries are up to 300


def test_a_gated_mlp_is_that_of_dinov2(key):
    """w3(silu(w1 x) * w2 x), with 2/3 of the hidden channels, here 42.7, rounded up to a multiple of 8."""
    block = Block(dim=16, heads=2, hidden=64, mlp="swiglu")
    x = jax.random.normal(key, (2, 3, 16))
    params = jax.tree.map(lambda leaf: leaf + 0.1, block.init(key, x)["params"])
    assert params["linear2"]["kernel"].shape == (48, 16)
    attended = jnp.zeros((2, 3, 2, 8))
    ours = block.apply({"params": params}, x, attended, 0.0, method="after")
    x, p = jax.tree.map(lambda array: np.asarray(array, np.float64), (x, params))
    x = x + p["attention"]["out"]["bias"]
    norm = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    norm = norm * p["norm2"]["scale"] + p["norm2"]["bias"]
    gate, value = np.split(norm @ p["linear1"]["kernel"] + p["linear1"]["bias"], 2, axis=-1)
    hidden = gate / (1 + np.exp(-gate)) * value
    expected = x + hidden @ p["linear2"]["kernel"] + p["linear2"]["bias"]
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_xavier_weights_begin_within_the_bounds_of_moco_v3(key):
    """Queries, keys and values are three matrices, each with the bound of its own."""
    model = ViT(**TINY | {"dim": 64, "depth": 1}, initializer="xavier", token_std=1e-6)
    params = jax.jit(model.init)(key, images((1, 16, 16)))["params"]
    block = params["block1"]
    bounds = {
        "qkv": (block["attention"]["qkv"], 64 + 64),
        "out": (block["attention"]["out"], 64 + 64),
        "mlp": (block["linear1"], 64 + 256),
        "patch": (params["patch"], 48 + 64),
    }
    for dense, fans in bounds.values():
        largest = np.abs(dense["kernel"]).max()
        assert 0.98 < largest / np.sqrt(6 / fans) <= 1
        np.testing.assert_array_equal(dense["bias"], 0)
    assert 0 < np.abs(params["token"]).max() < 1e-5


def test_computing_in_half_precision_keeps_parameters_in_single(key):
    x = images((2, 16, 16))
    variables = jax.jit(ViT(**TINY, dtype="bfloat16").init)(key, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    half, single = (apply(ViT(**TINY, dtype=dtype), variables, x) for dtype in ("bfloat16", "float32"))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), single, atol=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 18}, "18 pixels"),
        ({"heads": 3}, "3 heads"),
        ({"pool": "men"}, "'mean'"),
        ({"positions": "sincos"}, "sincos_rows"),
        ({"stem": "3x3"}, "network.encoder.stem cannot be '3x3'; valid: conv, patch"),
        ({"mlp": "swigl"}, "did you mean 'swiglu'"),
        ({"initializer": "normal"}, "did you mean 'truncated_normal'"),
        ({"stem": "conv", "size": 12, "patch": 6}, "network.encoder.patch to a power of 2"),
        ({"stem": "conv", "view_patch": 8}, "without a view_patch"),
        ({"view_patch": 5}, "no multiple of the patch of 5"),
    ],
)
def test_mistakes_are_named(key, options, message):
    with pytest.raises(UserError, match=message):
        ViT(**TINY | options).init(key, images((1, 16, 16)))


def test_an_image_that_the_patch_does_not_divide_is_named(key):
    with pytest.raises(UserError, match="14 pixels"):
        ViT(**TINY).init(key, images((1, 16, 14)))


def test_salience_is_what_the_class_token_attends_to(key):
    model = ViT(**TINY, registers=1)
    variables = random_variables(model, key)
    x = images((2, 16, 16))
    each = [model.apply(variables, x, block, method="attention")[:, :, 0, 2:] for block in range(2)]
    salience = model.apply(variables, x, method="salience")
    np.testing.assert_allclose(salience, np.mean(each, axis=(0, 2)), rtol=1e-5)


def test_the_tokens_of_clip_are_normalised_before_the_first_block(key):
    plain, clip = ViT(**TINY), ViT(**TINY, pre_norm=True, patch_bias=False)
    variables = random_variables(plain, key)
    params = variables["params"] | {
        "patch": {"kernel": variables["params"]["patch"]["kernel"]},
        "pre_norm": {"scale": jnp.full(16, 2.0), "bias": jnp.ones(16)},
    }
    assert jax.tree.structure(clip.init(key, images((1, 16, 16)))["params"]) == jax.tree.structure(params)
    x = images((2, 16, 16))
    tokens = np.asarray(plain.apply(variables, x, method="tokens")[1][0])
    centred = tokens - tokens.mean(-1, keepdims=True)
    expected = 2 * centred / np.sqrt(centred.var(-1, keepdims=True) + 1e-6) + 1
    first = clip.apply({"params": params}, x, method="tokens")[1][0]
    np.testing.assert_allclose(first, expected, rtol=1e-4, atol=1e-5)
