"""The text tower, and attention that looks back only."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.networks import TextTower, ViT
from ssl_jax.networks.attention import attend
from ssl_jax.networks.transformer import MLPS, Block

TINY = {"vocabulary": 30, "dim": 16, "depth": 2, "heads": 2, "output": 5}
TOKENS = jnp.array([[28, 3, 4, 29, 0, 0, 0], [28, 5, 6, 7, 8, 29, 0]])  # 28 starts and 29 ends a text


@pytest.fixture
def variables(key):
    """With positions and tokens that matter, which they hardly do at the start."""
    params = jax.jit(TextTower(**TINY).init)(key, TOKENS)["params"]
    params = jax.tree.map(lambda leaf: 5 * leaf if leaf.ndim > 1 else leaf, params)
    return {"params": params | {name: 10 * params[name] for name in ("tokens", "positions")}}


def apply(variables, tokens, **options):
    return jax.jit(TextTower(**TINY | options).apply)(variables, tokens)


def test_what_follows_the_end_makes_no_difference_and_what_precedes_it_does(variables):
    embedding = apply(variables, TOKENS)
    assert embedding.shape == (2, 5)
    np.testing.assert_allclose(apply(variables, TOKENS.at[0, 4:].set(9)), embedding, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(apply(variables, TOKENS[:, :6]), embedding, rtol=1e-5, atol=1e-6)
    assert np.abs(apply(variables, TOKENS.at[0, 1].set(9))[0] - embedding[0]).max() > 1e-2
    swapped = apply(variables, TOKENS.at[0, 1:3].set(TOKENS[0, 1:3][::-1]))
    assert np.abs(swapped[0] - embedding[0]).max() > 1e-2  # the order of words counts


def test_one_loop_over_the_blocks_and_recomputing_them_change_nothing(variables):
    def gradient(**options):
        return jax.grad(lambda v: jnp.sin(apply(v, TOKENS, **options)).sum())(variables)

    expected = gradient(scan_blocks=False)
    for options in ({"scan_blocks": True}, {"remat": True}):
        chex.assert_trees_all_close(gradient(**options), expected, rtol=1e-4, atol=1e-5)


def test_causal_attention_is_that_of_each_beginning(key):
    rows = jax.random.normal(key, (3, 2, 6, 2, 8))
    causal = attend(rows, 6, causal=True)
    for length in range(1, 7):
        alone = attend([x[:, :length] for x in rows], length)
        np.testing.assert_allclose(causal[:, length - 1], alone[:, -1], rtol=1e-5, atol=1e-6)


def test_weights_of_a_causal_block_are_a_triangle_and_those_of_some_queries_its_first_rows(key):
    block, x = Block(16, 2, 32, causal=True), jax.random.normal(key, (2, 5, 16))
    variables = block.init(key, x)
    weights = block.apply(variables, x, method="weights")
    np.testing.assert_array_equal(weights > 0, np.broadcast_to(np.tri(5, dtype=bool), weights.shape))
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(block.apply(variables, x, 2, method="weights"), weights[:, :, :2])


def test_a_tower_without_blocks_goes_through_those_of_an_image_encoder(key, variables):
    """As a tower of its own with these parameters; images still attend to everything."""
    encoder = ViT(patch=4, size=8, dim=16, depth=2, heads=2, eps=1e-5)
    params = encoder.init(key, jnp.zeros((1, 8, 8, 3)))["params"]
    shared, tower = encoder.blocks(params), TextTower(**TINY | {"depth": 0})
    own = {name: leaf for name, leaf in variables["params"].items() if not name.startswith("block")}
    assert jax.eval_shape(tower.init, key, TOKENS)["params"].keys() == own.keys()
    whole = own | {f"block{i + 1}": block for i, block in enumerate(shared[1])}
    found = tower.apply({"params": own}, TOKENS, shared)
    np.testing.assert_allclose(found, apply({"params": whole}, TOKENS), rtol=1e-5, atol=1e-6)
    assert not shared[0].causal


def test_quick_gelu_is_near_gelu():
    x = jnp.linspace(-4, 4, 9)
    np.testing.assert_allclose(MLPS["quick_gelu"](x), x / (1 + np.exp(-1.702 * np.asarray(x))), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(MLPS["quick_gelu"](x), MLPS["gelu"](x), atol=0.03)


def test_half_precision_computes_nearly_the_same(key):
    variables = jax.jit(TextTower(**TINY).init)(key, TOKENS)
    half = apply(variables, TOKENS, dtype="bfloat16")
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, apply(variables, TOKENS), atol=0.05)
