"""Losses over the pairs of views that multi-crop compares."""

import jax.numpy as jnp


def cross_views(values):
    large, views = values.shape[1:]
    different = jnp.arange(large)[:, None] != jnp.arange(views)[None, :]
    return jnp.mean(jnp.sum(values, axis=(1, 2), where=different[None])) / (large * (views - 1))


def mean_over_pairs(pairs, loss):
    """Returns the mean of `loss(a, b)` over pairs of views."""
    return sum(loss(a, b) for a, b in pairs) / len(pairs)
