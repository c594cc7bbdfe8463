"""Scaled dot-product attention, fused by cuDNN where it can be."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import logging
from jax.experimental.layout import Layout, with_layout_constraint

from ssl_jax.numeric import widen
from ssl_jax.parallel import platform


def attend(rows: Sequence[jax.Array], tokens: int, causal: bool = False) -> jax.Array:
    """Returns the attention's output [N, T, heads, D].

    On a GPU, cuDNN's flash attention computes it without storing the weights; elsewhere, or where cuDNN cannot (then
    one warning says why), XLA does.

    Args:
        rows: queries, keys and values, each [N, T, heads, D].
        tokens: how many of the T tokens there are; the rest is padding, which is not attended to.
        causal: whether a token attends only to itself and those before it.

    Source: Vaswani et al. 2017 (arXiv:1706.03762), section 3.2.1.
    """
    query, key, value = rows
    if platform() == "gpu":
        obstacle = cudnn_obstacle(query.shape[1:], query.dtype, causal)
        if not obstacle:
            return fused(query, key, value, tokens, causal)
        warn_once(f"attention on {query.shape[1:]} is not fused: {obstacle}")
    key, value = key[:, :tokens], value[:, :tokens]
    return jnp.einsum("bhqk,bkhd->bqhd", weights(query, key, causal).astype(value.dtype), value)


def fused(query: jax.Array, key: jax.Array, value: jax.Array, tokens: int, causal: bool = False) -> jax.Array:
    """Returns `attend` as cuDNN computes it."""
    lengths = None if tokens == query.shape[1] else jnp.full(query.shape[0], tokens, jnp.int32)
    options: Any = {"query_seq_lengths": lengths, "key_value_seq_lengths": lengths, "is_causal": causal}
    return jax.nn.dot_product_attention(query, key, value, implementation="cudnn", **options)


def row_major(x: jax.Array) -> jax.Array:
    """Returns x, on a GPU with its last axis contiguous in memory.

    XLA there likes to lay tokens out with the images last and then transposes them before and after each product.
    """
    return with_layout_constraint(x, Layout(tuple(range(x.ndim)))) if platform() == "gpu" else x


def padded(x: jax.Array) -> jax.Array:
    """Returns x [N, T, ...] with a token of zeros if cuDNN, which takes even lengths alone, needs it."""
    odd = x.shape[1] % 2 if platform() == "gpu" else 0
    return jnp.pad(x, ((0, 0), (0, odd), *((0, 0),) * (x.ndim - 2)))


def weights(query: jax.Array, key: jax.Array, causal: bool = False) -> jax.Array:
    """Returns the weights [N, heads, Q, T], whose rows sum to 1, of queries [N, Q, heads, D] and keys [N, T, heads, D].

    With `causal`, the queries are those of the first Q tokens.
    """
    logits = widen(jnp.einsum("bqhd,bkhd->bhqk", query * query.shape[-1] ** -0.5, key))
    if causal:
        logits = jnp.where(jnp.tri(logits.shape[2], logits.shape[3], dtype=bool)[None, None], logits, -jnp.inf)
    return nn.softmax(logits)


@functools.cache
def cudnn_obstacle(shape: tuple[int, int, int], dtype, causal: bool = False) -> str:
    """Returns why cuDNN cannot run forward and backward on rows [T, heads, D]; empty if it can, which is tried."""
    if dtype not in (jnp.bfloat16, jnp.float16):
        return f"cuDNN does not compute in {dtype}; set network.dtype=bfloat16"
    rows = jax.ShapeDtypeStruct((1, *shape), dtype)

    def gradients(*rows):
        output, pull = jax.vjp(functools.partial(fused, tokens=shape[0] - 1, causal=causal), *rows)
        return pull(output)

    try:
        jax.jit(gradients).lower(rows, rows, rows).compile()
    except Exception as error:  # JAX and XLA raise many types, and with any of them XLA's attention still runs
        return str(error).partition("\n")[0]
    return ""


@functools.cache
def warn_once(message: str) -> None:
    logging.warning(message)
