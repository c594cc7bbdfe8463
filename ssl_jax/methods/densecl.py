"""DenseCL: MoCo for images and, at the same time, for the positions that correspond between two views."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.losses import info_nce, nearest_position
from ssl_jax.method import (
    Duration,
    Method,
    PyTree,
    Schedule,
    apply,
    ema,
    initialize,
    push,
    random_queue,
    shapes,
    two_views,
)
from ssl_jax.numeric import as_rows, normalize


@dataclasses.dataclass(frozen=True)
class DenseCL(Method):
    """Dense Contrastive Learning (Wang et al. 2020, arXiv:2011.09157), equations 1 to 4, on MoCo v2."""

    decay: Schedule  # m of the key encoder
    queue_size: int = 65536  # keys of each kind
    temperature: float = 0.2  # tau
    weight: float = 0.5  # lambda of the dense part
    dense_from: Duration = Duration(0)  # when the dense part begins
    shuffle: bool = False  # as in MoCo
    memories = ("queue", "dense_queue")

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics of the query encoder
        target: PyTree  # the key encoder: moving average of the query encoder's parameters
        target_stats: PyTree
        queue: jax.Array  # [K, D] unit-norm keys, newest first
        dense_queue: jax.Array  # [K, D] unit-norm means over positions of dense keys, newest first

    def init(self, key, batch):
        size = len(two_views(batch["views"]))
        params, stats = initialize(self.network, key, batch["views"])
        outputs = shapes(self.network, params, stats, batch["views"])
        queues = [
            random_queue(jax.random.fold_in(key, i), self.queue_size, x.shape[-1], size)
            for i, x in enumerate((outputs.projection, outputs.dense), start=1)
        ]
        return params, self.State(stats, params, stats, *queues)

    def loss(self, params, state, batch, key, step):
        views = two_views(batch["views"])
        online, stats = apply(self.network, params, state.stats, (views[:, :1],))
        shuffle = key if self.shuffle else None
        target, target_stats = apply(self.network, state.target, state.target_stats, (views[:, 1:],), shuffle)
        keys = normalize(target.projection[:, 0])
        whole = info_nce(normalize(online.projection[:, 0]), keys, state.queue, self.temperature)
        match = nearest_position(online.maps[:, 0], target.maps[:, 0])
        corresponding = jnp.take_along_axis(target.dense[:, 0], match[:, :, None], axis=1)
        queries, positives = (as_rows(normalize(x)) for x in (online.dense[:, 0], corresponding))
        dense = info_nce(queries, positives, state.dense_queue, self.temperature)
        weight = jnp.where(step < self.dense_from, 0.0, self.weight)
        loss = (1 - weight) * whole + weight * dense
        pooled = normalize(jnp.mean(target.dense[:, 0], axis=1))
        queues = push(state.queue, keys), push(state.dense_queue, pooled)
        metrics = {"outputs": online, "dense_loss": dense, "uniform_loss": jnp.log(self.queue_size + 1.0)}
        return loss, (self.State(stats, state.target, target_stats, *queues), metrics)

    def after_step(self, params, state, step):
        return params, state._replace(target=ema(state.target, params, self.decay(step)))
