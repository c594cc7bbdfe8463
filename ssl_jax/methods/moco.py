"""MoCo: queries find their key among a queue of keys made by a slowly moving encoder."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError
from ssl_jax.losses import info_nce
from ssl_jax.method import Method, PyTree, Schedule, apply, ema, initialize, push, shapes, two_views
from ssl_jax.numeric import normalize


@dataclasses.dataclass(frozen=True)
class MoCo(Method):
    """Momentum Contrast (He et al. 2019, arXiv:1911.05722, Algorithm 1; v2: Chen et al. 2020, arXiv:2003.04297).

    View 0 is the query, view 1 the key. The paper moves the key encoder before it encodes the keys; moving it after the
    step is the same sequence.
    """

    decay: Schedule  # m of the key encoder
    queue_size: int = 65536  # keys, at least one batch
    temperature: float = 0.2  # tau
    shuffle: bool = (
        False  # permute the keys' batch, so that split BatchNorm statistics cannot tell a pair (section 3.3)
    )

    memories = ("queue",)

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics of the query encoder
        target: PyTree  # the key encoder: moving average of the query encoder's parameters
        target_stats: PyTree
        queue: jax.Array  # [K, D] unit-norm keys, newest first

    def init(self, key, batch):
        size = len(two_views(batch["views"]))
        if self.queue_size < size:
            raise UserError(f"a queue of {self.queue_size} keys holds no batch of {size}; raise method.queue_size")
        params, stats = initialize(self.network, key, batch["views"])
        dimension = shapes(self.network, params, stats, batch["views"]).projection.shape[-1]
        queue = jax.random.normal(jax.random.fold_in(key, 1), (self.queue_size, dimension))
        return params, self.State(stats, params, stats, normalize(queue))

    def loss(self, params, state, batch, key, step):
        views = two_views(batch["views"])
        online, stats = apply(self.network, params, state.stats, (views[:, :1],))
        keys, target_stats = self.keys(state, views[:, 1:], key)
        loss = info_nce(normalize(online.projection[:, 0]), keys, state.queue, self.temperature)
        queue = push(state.queue, keys)
        uniform = jnp.log(self.queue_size + 1.0)
        return loss, (
            self.State(stats, state.target, target_stats, queue),
            {"outputs": online, "uniform_loss": uniform},
        )

    def keys(self, state, views, key):
        """Returns the unit-norm keys [B, D] and the key encoder's new statistics."""
        order = jax.random.permutation(key, views.shape[0])
        if self.shuffle:
            views = views[order]
        target, target_stats = apply(self.network, state.target, state.target_stats, (views,))
        keys = normalize(target.projection[:, 0])
        return keys[jnp.argsort(order)] if self.shuffle else keys, target_stats

    def after_step(self, params, state, step):
        return params, state._replace(target=ema(state.target, params, self.decay(step)))
