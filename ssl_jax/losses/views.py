"""Losses over the pairs of views that multi-crop compares (SwAV, Caron et al. 2020, arXiv:2006.09882, equation 6)."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp


def cross_views(values: jax.Array) -> jax.Array:
    """Returns the mean over images and over pairs of different views of values [B, A, V].

    Args:
        values: `values[:, a, v]` compares the target of large view a with the prediction of view v; the A large views
            come first among the V >= 2.
    """
    large, views = values.shape[1:]
    different = jnp.arange(large)[:, None] != jnp.arange(views)[None, :]
    return jnp.mean(jnp.sum(values, axis=(1, 2), where=different[None])) / (large * (views - 1))


def mean_over_pairs(pairs: Sequence[tuple[int, int]], loss: Callable[[int, int], jax.Array]) -> jax.Array:
    """Returns the mean of `loss(a, b)` over pairs of views, such as `Views.pairs`."""
    return functools.reduce(jnp.add, (loss(a, b) for a, b in pairs)) / len(pairs)
