"""DenseCL: MoCo for images and for corresponding positions of two views."""

import dataclasses
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.fields import positive
from ssl_jax.losses import info_nce, nearest_position
from ssl_jax.memory import push, queue_rows, random_queue
from ssl_jax.method import Decay, Method, PyTree, Result, Steps, Variables, apply, follow, initialize
from ssl_jax.momentum import find_key, shuffled
from ssl_jax.numeric import as_rows, l2_normalize


@dataclasses.dataclass(frozen=True)
class DenseCL(Method):
    """Dense Contrastive Learning (Wang et al. 2020, arXiv:2011.09157), equations 1 to 4, on MoCo v2.

    The dense part compares the first large view with the second, which is the key; further views are queries of MoCo.
    """

    decay: Decay  # m of the key encoder
    queue_size: int = 65536  # keys of each kind, a multiple of the batch size
    temperature: Annotated[float, positive] = 0.2  # tau
    weight: float = 0.5  # lambda, weight of the dense part
    dense_from: Steps = Steps(0)  # step at which the dense part begins
    shuffle: bool = False  # as in MoCo
    mixes_sizes = False
    large_views = 2
    queues = ("queue", "dense_queue")

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics of the query encoder
        target: Variables  # the key encoder: moving average of the query encoder
        queue: jax.Array  # [K / B, B, D] unit-norm keys
        dense_queue: jax.Array  # [K / B, B, D] unit-norm means over positions of dense keys

    def init(self, key, batch):
        variables, shapes = initialize(self.network, key, batch["views"])
        queues = [
            random_queue(jax.random.fold_in(key, i), self.queue_size, x.shape[-1], len(x))
            for i, x in enumerate((shapes.projection, shapes.dense[0]), start=1)
        ]
        return {"network": variables.params}, self.State(variables.stats, variables, *queues)

    def loss(self, params, state, batch, key, step):
        views, own = batch["views"], jax.random.fold_in(key, 1)
        online, stats = apply(self.network, self.variables(params, state), views.without(1), key)
        found, target = shuffled(self.network, state.target, views.only(1), own if self.shuffle else None)
        keys = l2_normalize(found.projection[:, 0])
        whole = find_key(online.projection, keys, state.queue, self.temperature)

        (query_patches, *_), (query_dense, *_) = online.patches, online.dense
        (key_patches,), (key_dense,) = found.patches, found.dense
        match = nearest_position(query_patches[:, 0], key_patches[:, 0])
        corresponding = jnp.take_along_axis(key_dense[:, 0], match[:, :, None], axis=1)
        queries, positives = (as_rows(l2_normalize(x)) for x in (query_dense[:, 0], corresponding))
        dense = info_nce(queries, positives, queue_rows(state.dense_queue), self.temperature)

        weight = jnp.where(step < self.dense_from, 0.0, self.weight)
        loss = (1 - weight) * whole + weight * dense
        pooled = l2_normalize(jnp.mean(key_dense[:, 0], axis=1))
        queues = push(state.queue, keys, step), push(state.dense_queue, pooled, step)
        metrics = {"dense_loss": dense, "uniform_loss": jnp.log(self.queue_size + 1.0)}
        return Result(loss, self.State(stats, target, *queues), metrics, online.features[:, 0], online.projection)

    def after_step(self, params, state, key, step):
        return params, state._replace(target=follow(state.target, params["network"], self.decay(step)))
