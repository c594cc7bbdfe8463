"""Norm and weight standardisation against numpy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ssl_jax.errors import UserError
from ssl_jax.networks.norm import Norm, standardized
from ssl_jax.numeric import l2_normalize


def apply(norm, x, params=None, stats=None, train=True):
    variables = norm.init(jax.random.key(0), x, train)
    variables = {
        "params": variables.get("params", {}) | (params or {}),
        "batch_stats": stats or variables.get("batch_stats", {}),
    }
    return norm.apply(variables, x, train, mutable=["batch_stats"])


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(2, 3, (8, 2, 3, 4)).astype(np.float32)


def test_batch_norm_is_the_formula(x):
    scale, bias = np.array([1, 2, 0.5, -1], np.float32), np.array([0, 1, -1, 3], np.float32)
    y, state = apply(Norm(), x, {"scale": scale, "bias": bias})
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 1e-5) * scale + bias, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state["batch_stats"]["mean"], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(state["batch_stats"]["var"], 0.9 + 0.1 * variance, rtol=1e-5)


def test_evaluation_uses_the_running_statistics_alone(x):
    stats = {"mean": jnp.arange(4.0), "var": jnp.arange(1.0, 5.0)}
    y, state = apply(Norm(splits=3), x, stats=stats, train=False)
    np.testing.assert_allclose(y, (x - np.arange(4)) / np.sqrt(np.arange(1, 5) + 1e-5), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(state["batch_stats"]["mean"], stats["mean"])


def test_splits_are_separate_batches(x):
    y, state = apply(Norm(splits=4), x)
    parts = [apply(Norm(), part) for part in np.split(x, 4)]
    np.testing.assert_allclose(y, np.concatenate([part for part, _ in parts]), rtol=1e-4, atol=1e-5)
    for name in ("mean", "var"):
        average = np.mean([part["batch_stats"][name] for _, part in parts], axis=0)
        np.testing.assert_allclose(state["batch_stats"][name], average, rtol=1e-5)


@pytest.mark.parametrize("splits", [1, 4, 8])
def test_a_sharded_batch_is_one_batch(x, splits):
    norm = Norm(splits=splits)
    expected, expected_state = apply(norm, x)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    y, state = jax.jit(lambda x: apply(norm, x))(sharded)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state["batch_stats"]["var"], expected_state["batch_stats"]["var"], rtol=1e-5)


def test_group_norm_is_the_formula_on_each_image(x):
    y, _ = apply(Norm("group", groups=2), x)
    parts = x.reshape(8, 6, 2, 2)
    mean, variance = parts.mean((1, 3), keepdims=True), parts.var((1, 3), keepdims=True)
    np.testing.assert_allclose(y, ((parts - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape), rtol=1e-4, atol=1e-5)


def test_layer_norm_is_the_formula_at_each_position(x):
    y, _ = apply(Norm("layer", eps=1e-6), x)
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 1e-6), rtol=1e-4, atol=1e-5)


def test_variance_survives_a_large_mean():
    x = 1000 + np.random.default_rng(1).normal(size=(4096, 2)).astype(np.float32)
    near = {"mean": jnp.full(2, 999.0), "var": jnp.ones(2)}
    y, _ = apply(Norm(), x, stats=near)
    np.testing.assert_allclose(np.std(y, axis=0), 1, atol=1e-3)


def test_half_precision_has_statistics_in_float32(x):
    half = jnp.asarray(x, jnp.bfloat16)
    y, state = apply(Norm(), half)
    expected, _ = apply(Norm(), half.astype(jnp.float32))
    assert y.dtype == jnp.bfloat16
    assert state["batch_stats"]["var"].dtype == jnp.float32
    np.testing.assert_array_equal(y, expected.astype(jnp.bfloat16))


def test_parameters_are_those_asked_for(x):
    key = jax.random.key(0)
    assert set(Norm(scale=False).init(key, x)["params"]) == {"bias"}
    assert "params" not in Norm(scale=False, bias=False).init(key, x)
    np.testing.assert_array_equal(Norm(zero=True).init(key, x)["params"]["scale"], np.zeros(4))
    assert not Norm("none").init(key, x)
    np.testing.assert_array_equal(Norm("none").apply({}, x), x)


@pytest.mark.parametrize(
    ("norm", "message"),
    [(Norm("bach"), "'batch'"), (Norm("group", groups=3), "4 channels"), (Norm(splits=3), "8 rows")],
)
def test_mistakes_are_named(x, norm, message):
    with pytest.raises(UserError, match=message):
        norm.init(jax.random.key(0), x, True)


def test_standardised_weights_have_mean_zero_and_variance_one():
    x, kernel = np.eye(6, dtype=np.float32), np.random.default_rng(2).normal(5, 2, (6, 3)).astype(np.float32)
    product = standardized(jnp.matmul, 0.0)(x, kernel)
    np.testing.assert_allclose(product, (kernel - kernel.mean(0)) / kernel.std(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(standardized(jnp.matmul, 0.0)(x, 3 * kernel - 7), product, rtol=1e-4, atol=1e-5)


def test_normalized_rows_have_unit_length_and_zero_stays_zero():
    x = jnp.asarray([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(l2_normalize(x), [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert np.isfinite(jax.grad(lambda x: l2_normalize(x).sum())(x)).all()
