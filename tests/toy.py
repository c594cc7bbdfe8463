"""A network small enough to reason about, for properties of methods, and a run for those that learn from one."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax import networks
from ssl_jax.checkpoint import Checkpoints
from ssl_jax.fields import to_dict
from ssl_jax.networks import MLP, Network, Prototypes
from ssl_jax.workdir import claim

BATCH, VIEWS, SIZE, DIMENSION, PROTOTYPES = 8, 2, 4, 6, 10


class Linear(nn.Module):
    """Images [N, H, W, C] -> features [N, 8] by one matrix."""

    stride = 1

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(8)(x.reshape(x.shape[0], -1))


def network(predictor=None) -> Network:
    head = {"mlp": MLP(DIMENSION, layers=1), "prototypes": Prototypes(PROTOTYPES), None: None}[predictor]
    return Network(Linear(), MLP(DIMENSION, layers=1), head, passes="resolution")


def batch(seed=0, views=VIEWS):
    return {"views": (jax.random.normal(jax.random.key(seed), (BATCH, views, SIZE, SIZE, 3)),)}


def write_run(workdir, config, nest=lambda tree: tree):
    """Makes a workdir as a run of this config leaves it, with random weights, `nest`ed in its state; returns them."""
    claim(workdir, config)
    variables = networks.build(to_dict(config.network)).init(jax.random.key(7), (jnp.zeros((1, 1, 16, 16, 3)),))
    stats = {"stats": nest(variables["batch_stats"]), "queue": jnp.zeros((8, 4))}
    state = {"params": nest(variables["params"]), "state": stats}
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(3, state)
    return variables
