"""ResNets: sizes from the papers, stems, and what their options promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.errors import UserError
from ssl_jax.networks import ENCODERS, ResNet, minimum_size

TINY = {"layers": (1, 2), "widths": (8, 16), "stem_width": 8, "stem": "3x3"}


def count(model, side=64):
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, side, side, 3))))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def images(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(*shape, 3)), jnp.float32)


def apply(model, variables, x):
    return jax.jit(model.apply)(variables, x).pooled


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        # torchvision's numbers without the classifier
        ("resnet18", {}, 11_689_512 - 513_000),
        ("resnet34", {}, 21_797_672 - 513_000),
        ("resnet50", {}, 25_557_032 - 2_049_000),
        ("resnet101", {}, 44_549_160 - 2_049_000),
        ("resnet152", {}, 60_192_808 - 2_049_000),
        # the CIFAR stem has 3x3 instead of 7x7 weights
        ("resnet18", {"stem": "3x3"}, 11_689_512 - 513_000 - 3 * 64 * 40),
    ],
)
def test_parameters_number_as_published(name, options, parameters):
    assert count(ENCODERS[name](**options)) == parameters


@pytest.mark.parametrize(
    ("options", "millions"),
    # SimCLR (arXiv:2002.05709, table 6) and SimCLR v2 (arXiv:2006.10029, table 1) count these
    [({"width": 2.0}, 94), ({"width": 4.0}, 375), ({"selective": 1 / 16, "stem": "deep"}, 35)],
)
def test_wide_and_selective_networks_are_as_large_as_published(options, millions):
    assert round(count(ENCODERS["resnet50"](**options)) / 1e6) == millions


@pytest.mark.parametrize(("stem", "stride"), [("7x7", 8), ("deep", 8), ("3x3/2", 4), ("3x3", 2)])
def test_stride_is_that_of_the_last_map(key, stem, stride):
    model = ResNet(**TINY | {"stem": stem})
    x = images((1, 24, 32))
    shapes = jax.eval_shape(lambda: model.init_with_output(key, x, method="maps")[0])
    assert minimum_size(model) == stride
    assert shapes[-1].shape == (1, 24 // stride, 32 // stride, 16)


@pytest.mark.parametrize("options", [{}, {"norm": "group", "groups": 4, "standardize": 1e-8}, {"preactivation": True}])
def test_features_in_evaluation_depend_on_their_own_image_alone(key, options):
    model = ResNet(**TINY, **options)
    x = images((4, 8, 8))
    variables = jax.jit(model.init)(key, x)
    features = apply(model, variables, x)
    changed = apply(model, variables, x.at[1:].multiply(-3))
    assert features.shape == (4, 16)
    np.testing.assert_allclose(features[0], changed[0], rtol=1e-5, atol=1e-6)
    assert not np.allclose(features[1], changed[1], rtol=1e-2)


def test_a_training_pass_uses_the_statistics_of_the_batch(key):
    model = ResNet(**TINY)
    x = images((4, 8, 8))
    variables = jax.jit(model.init)(key, x)
    features, _ = model.apply(variables, x, train=True, mutable=["batch_stats"])
    changed, _ = model.apply(variables, x.at[1:].multiply(-3), train=True, mutable=["batch_stats"])
    assert not np.allclose(features.pooled[0], changed.pooled[0], rtol=1e-2)


def test_zero_gamma_makes_blocks_identities(key):
    model = ResNet(**TINY | {"layers": (3,), "widths": (8,)}, zero_gamma=True)
    x = images((2, 8, 8))
    stem, last = model.init_with_output(key, x, method="maps")[0]
    np.testing.assert_allclose(last, stem, rtol=1e-6)


def test_standardised_weights_have_no_scale(key):
    model = ResNet(**TINY, norm="none", standardize=1e-8)
    x = images((2, 8, 8))
    params = jax.jit(model.init)(key, x)["params"]
    features = apply(model, {"params": params}, x)
    scaled = apply(model, {"params": jax.tree.map(lambda kernel: 3 * kernel + 1, params)}, x)
    np.testing.assert_allclose(features, scaled, rtol=1e-3)


def test_selective_kernels_in_each_image_sum_to_one(key):
    model = ResNet((1,), bottleneck=True, widths=(16,), stem_width=8, stem="3x3", selective=0.5)
    x = images((2, 8, 8))
    variables = jax.jit(model.init)(key, x)
    # with equal branches it does not matter how they are mixed
    kernel = variables["params"]["stage1_block1"]["conv2"]["conv"]["kernel"]
    variables["params"]["stage1_block1"]["conv2"]["conv"]["kernel"] = jnp.tile(kernel[..., :4], 2)
    features = apply(model, variables, x)
    variables["params"]["stage1_block1"]["conv2"]["mix"]["kernel"] *= -5
    np.testing.assert_allclose(apply(model, variables, x), features, rtol=1e-5)


def test_computing_in_half_precision_keeps_parameters_in_single(key):
    x = images((2, 8, 8))
    variables = jax.jit(ResNet(**TINY, dtype="bfloat16").init)(key, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    half, single = (apply(ResNet(**TINY, dtype=dtype), variables, x) for dtype in ("bfloat16", "float32"))
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, single, atol=0.05 * np.abs(single).max())
    assert not np.array_equal(half, single)


@pytest.mark.parametrize(
    ("option", "nearest"), [({"stem": "7*7"}, "'7x7'"), ({"stem": "7x7", "pool": "sane"}, "'same'")]
)
def test_unknown_options_name_the_nearest(key, option, nearest):
    with pytest.raises(UserError, match=nearest):
        ResNet(**TINY | option).init(key, images((1, 16, 16)))
