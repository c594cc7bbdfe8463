"""InfoMin: MoCo with views that share little, and with patches in random order as a second query."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError
from ssl_jax.losses import info_nce
from ssl_jax.method import Keys, Method, Schedule, apply, ema, initialize, push, random_queue, shapes, two_views
from ssl_jax.networks import Jigsaw
from ssl_jax.numeric import normalize


@dataclasses.dataclass(frozen=True)
class InfoMin(Method):
    """What Makes for Good Views (Tian et al. 2020, arXiv:2005.10243), section 4.3, with the authors' PyContrast.

    The first resolution holds MoCo's query and key, the second the patches of a grid. These are a second query.
    """

    decay: Schedule  # m of the key encoder
    queue_size: int = 65536  # keys, at least those of one step
    temperature: float = 0.15  # tau
    weight: float = 0.5  # beta, of the patches
    shuffle: bool = False  # as in MoCo
    memories = ("queue",)
    State = Keys

    def init(self, key, batch):
        if len(batch["views"]) != 2:
            raise UserError("InfoMin takes two views and a grid of patches; choose augment.recipe=infomin")
        size = len(two_views(batch["views"][:1]))
        params, stats = initialize(self.network, key, batch["views"][:1])
        patches = shapes(self.network, params, stats, batch["views"][1:])
        queue = random_queue(jax.random.fold_in(key, 1), self.queue_size, patches.projection.shape[-1], size)
        features = jnp.zeros(patches.features.shape)
        jigsaw = self.jigsaw(queue).init(jax.random.fold_in(key, 2), features, jnp.zeros(features.shape[:2], int))
        return params | {"jigsaw": jigsaw["params"]}, self.State(stats, params, stats, queue)

    def loss(self, params, state, batch, key, step):
        views, patches = batch["views"]
        online, stats = apply(self.network, params, state.stats, (views[:, :1],))
        shuffle = key if self.shuffle else None
        target, target_stats = apply(self.network, state.target, state.target_stats, (views[:, 1:],), shuffle)
        keys = normalize(target.projection[:, 0])
        whole_loss = info_nce(normalize(online.projection[:, 0]), keys, state.queue, self.temperature)

        parts, stats = apply(self.network, params, stats, (patches,))
        places = jnp.broadcast_to(jnp.arange(patches.shape[1]), patches.shape[:2])
        order = jax.random.permutation(jax.random.fold_in(key, 1), places, axis=1, independent=True)
        query: Any = self.jigsaw(state.queue).apply({"params": params["jigsaw"]}, parts.features, order)
        jigsaw_loss = info_nce(normalize(query), keys, state.queue, self.temperature)

        loss = (1 - self.weight) * whole_loss + self.weight * jigsaw_loss
        uniform = jnp.log(self.queue_size + 1.0)
        metrics = {"outputs": online, "jigsaw_loss": jigsaw_loss, "uniform_loss": uniform}
        return loss, (self.State(stats, state.target, target_stats, push(state.queue, keys)), metrics)

    def after_step(self, params, state, step):
        network = {name: params[name] for name in state.target}
        return params, state._replace(target=ema(state.target, network, self.decay(step)))

    def jigsaw(self, queue) -> Jigsaw:
        return Jigsaw(queue.shape[-1])
