"""A network small enough to reason about, for properties of methods."""

import flax.linen as nn
import jax

from ssl_jax.networks import MLP, Network, Prototypes

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
