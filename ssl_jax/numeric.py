"""Small operations on arrays and trees, shared by losses, methods, networks and evaluation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def widen(x: jax.Array) -> jax.Array:
    """Returns x in float32, or unchanged if it is wider."""
    return x.astype(np.promote_types(x.dtype, np.float32))


def l2_normalize(x: jax.Array, axis: int = -1) -> jax.Array:
    """Returns x scaled to unit Euclidean length along an axis, in float32 or wider; a zero vector stays zero."""
    x = widen(x)
    squared = jnp.sum(x * x, axis, keepdims=True)
    return x * jax.lax.rsqrt(jnp.where(squared > 1e-24, squared, 1.0))  # so that the gradient at zero is finite


def as_rows(x: jax.Array) -> jax.Array:
    """Returns [..., D] as rows [N, D]."""
    return x.reshape(-1, x.shape[-1])


def path_name(path: tuple[Any, ...]) -> str:
    """Returns the path of a leaf in a tree as text, such as "encoder/stem/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def size_in_bytes(tree: Any) -> int:
    """Returns the bytes of all arrays of a tree, or of arrays of such shapes."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def ema(average: Any, new: Any, decay: jax.Array | float) -> Any:
    """Returns the moving average `decay * average + (1 - decay) * new`, leaf by leaf."""

    def move(old, value):
        rate = jnp.asarray(decay, old.dtype)
        return rate * old + (1 - rate) * value

    return jax.tree.map(move, average, new)
