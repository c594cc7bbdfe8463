"""NNCLR: the positive is not the other view but its nearest neighbour among images seen before."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.losses import info_nce_pairs
from ssl_jax.method import Method, PyTree, apply, initialize, push, random_queue, shapes, two_views
from ssl_jax.numeric import normalize


@dataclasses.dataclass(frozen=True)
class NNCLR(Method):
    """With a Little Help from My Friends (Dwibedi et al. 2021, arXiv:2104.14548), Algorithm 1."""

    temperature: float = 0.1  # tau
    queue_size: int = 98304  # embeddings of the support set
    memories = ("queue",)

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics
        queue: jax.Array  # [Q, D] unit-norm embeddings of past first views, newest first

    def init(self, key, batch):
        two_views(batch["views"])
        params, stats = initialize(self.network, key, batch["views"])
        dimension = shapes(self.network, params, stats, batch["views"]).projection.shape[-1]
        queue = random_queue(jax.random.fold_in(key, 1), self.queue_size, dimension, len(batch["views"][0]))
        return params, self.State(stats, queue)

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, params, state.stats, batch["views"])
        embedding = jax.lax.stop_gradient(normalize(outputs.projection))
        prediction = normalize(outputs.prediction)

        def direction(view, other):
            neighbour = state.queue[jnp.argmax(embedding[:, view] @ state.queue.T, axis=1)]
            return info_nce_pairs(neighbour, prediction[:, other], self.temperature)

        loss = (direction(0, 1) + direction(1, 0)) / (4 * self.temperature)  # the mean of two plain cross-entropies
        queue = push(state.queue, embedding[:, 0])
        uniform = jnp.log(len(embedding) * 1.0)
        return loss, (self.State(stats, queue), {"outputs": outputs, "uniform_loss": uniform})
