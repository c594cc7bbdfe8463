"""NNCLR: use the nearest neighbour of a view among past images as its positive."""

import dataclasses
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.fields import positive
from ssl_jax.losses import info_nce_pairs, mean_over_pairs
from ssl_jax.memory import push, queue_rows, random_queue
from ssl_jax.method import Method, PyTree, Result, apply, initialize
from ssl_jax.numeric import l2_normalize


@dataclasses.dataclass(frozen=True)
class NNCLR(Method):
    """With a Little Help from My Friends (Dwibedi et al. 2021, arXiv:2104.14548), Algorithm 1."""

    temperature: Annotated[float, positive] = 0.1  # tau
    queue_size: int = 98304  # embeddings of the support set, a multiple of the batch size
    large_views = 2
    least_batch = 2
    queues = ("queue",)

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics
        queue: jax.Array  # [Q / B, B, D] unit-norm embeddings of past first views

    def init(self, key, batch):
        variables, shapes = initialize(self.network, key, batch["views"])
        size, _, dimension = shapes.projection.shape
        queue = random_queue(jax.random.fold_in(key, 1), self.queue_size, dimension, size)
        return {"network": variables.params}, self.State(variables.stats, queue)

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        z, p = jax.lax.stop_gradient(l2_normalize(outputs.projection)), l2_normalize(outputs.prediction)
        views, past = batch["views"], queue_rows(state.queue)
        neighbour = [past[jnp.argmax(z[:, view] @ past.T, axis=1)] for view in range(views.large.total)]
        loss = mean_over_pairs(views.directions, lambda a, v: info_nce_pairs(neighbour[a], p[:, v], self.temperature))
        loss /= 2 * self.temperature  # undo the factor of `info_nce_pairs`
        state = self.State(stats, push(state.queue, z[:, 0], step))
        metrics = {"uniform_loss": jnp.log(len(z) * 1.0)}
        return Result(loss, state, metrics, outputs.features[:, 0], outputs.projection)
