"""Converts weights of the originals to our variables: names and layouts, one table per framework."""

import functools

import flax.traverse_util as traverse
import jax.numpy as jnp
import numpy as np

COUNTER = {"*num_batches_tracked": "our running averages have a constant rate and count nothing"}


def variables(table, arrays, leaves):
    """Returns our variables in float64 from the given arrays; leaves: their leaf -> (collection, leaf, layout)."""
    flat = {}
    for ours, theirs in table:
        for leaf, (collection, name, layout) in leaves.items():
            if theirs + leaf in arrays:
                value = arrays[theirs + leaf]
                flat[f"{collection}/{ours}/{name(value)}"] = layout(value).astype(np.float64)
    tree = traverse.unflatten_dict(flat, sep="/")
    return {"params": tree["params"], "batch_stats": tree.get("batch_stats", {})}


def from_torch(w):
    return np.transpose(w, {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[w.ndim])


def to_torch(w):
    return np.transpose(w, {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[w.ndim])


def constant(name):
    return lambda w: name


def vector(w):
    return w.reshape(-1)


TORCH = {
    ".weight": ("params", lambda w: "kernel" if w.ndim > 1 else "scale", from_torch),
    ".bias": ("params", constant("bias"), from_torch),
    ".running_mean": ("batch_stats", constant("mean"), from_torch),
    ".running_var": ("batch_stats", constant("var"), from_torch),
}
TENSORFLOW = {
    "kernel:0": ("params", constant("kernel"), np.asarray),
    "bias:0": ("params", constant("bias"), np.asarray),
    "gamma:0": ("params", constant("scale"), np.asarray),
    "beta:0": ("params", constant("bias"), np.asarray),
    "moving_mean:0": ("batch_stats", constant("mean"), np.asarray),
    "moving_variance:0": ("batch_stats", constant("var"), np.asarray),
}
HAIKU = {
    "/w": ("params", constant("kernel"), np.asarray),
    "/b": ("params", constant("bias"), np.asarray),
    "/scale": ("params", constant("scale"), vector),
    "/offset": ("params", constant("bias"), vector),
    "/~/mean_ema/average": ("batch_stats", constant("mean"), vector),
    "/~/var_ema/average": ("batch_stats", constant("var"), vector),
}


def get(tree, path):
    return functools.reduce(lambda node, name: node[name], path.split("/"), tree)


def nhwc(x):
    return jnp.asarray(np.moveaxis(x, 1, -1), jnp.float64)


def nchw(x):
    return np.moveaxis(np.asarray(x), -1, 1)
