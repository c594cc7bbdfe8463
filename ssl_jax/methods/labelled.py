"""Shared by methods that learn from labels."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.augment import Views
from ssl_jax.method import PyTree, initialize
from ssl_jax.networks import Network
from ssl_jax.numeric import as_rows, l2_normalize


def labelled_rows(projection: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns projections [B, V, D] as rows [B V, D] of unit length, and the label [B V] of each."""
    return as_rows(l2_normalize(projection)), jnp.repeat(label, projection.shape[1])


def with_proxies(network: Network, key: jax.Array, views: Views, classes: int) -> tuple[PyTree, PyTree]:
    """Returns the parameters of a network and of `proxies` [classes, D], and the network's statistics."""
    variables, shapes = initialize(network, key, views)
    proxies = jax.random.normal(jax.random.fold_in(key, 1), (classes, shapes.projection.shape[-1]))
    return {"network": variables.params, "proxies": proxies}, variables.stats


def linear(key: jax.Array, size: int, output: int) -> PyTree:
    """Returns the parameters of a linear map from features [..., size] to [..., output]."""
    return nn.Dense(output).init(key, jnp.zeros((1, size)))["params"]


def through(params: PyTree, features: jax.Array) -> jax.Array:
    """Applies a linear map to features [..., D]."""
    output: Any = nn.Dense(params["bias"].size).apply({"params": params}, features)
    return output
