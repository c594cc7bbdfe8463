"""InfoMin: MoCo with views that share little, and with patches in random order as a second query."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError
from ssl_jax.losses import info_nce
from ssl_jax.method import apply, shapes
from ssl_jax.methods.moco import MoCo
from ssl_jax.networks import Jigsaw
from ssl_jax.numeric import normalize


@dataclasses.dataclass(frozen=True)
class InfoMin(MoCo):
    """What Makes for Good Views (Tian et al. 2020, arXiv:2005.10243), section 4.3, with the authors' PyContrast.

    The first resolution holds MoCo's two views, the second the patches. They look for MoCo's keys, among its queue.
    """

    weight: float = 0.5  # beta of the patches

    def init(self, key, batch):
        if len(batch["views"]) != 2:
            raise UserError("InfoMin takes two views and a grid of patches; choose augment.recipe=infomin")
        params, state = super().init(key, whole(batch))
        features = shapes(self.network, params, state.stats, batch["views"][1:]).features
        order = jnp.zeros(features.shape[:2], int)
        variables = self.jigsaw(state).init(jax.random.fold_in(key, 2), jnp.zeros(features.shape), order)
        return params | {"jigsaw": variables["params"]}, state

    def loss(self, params, state, batch, key, step):
        whole_loss, (after, metrics) = super().loss(params, state, whole(batch), key, step)
        patches, stats = apply(self.network, params, after.stats, batch["views"][1:])
        size, count = patches.features.shape[:2]
        places = jnp.broadcast_to(jnp.arange(count), (size, count))
        order = jax.random.permutation(jax.random.fold_in(key, 2), places, axis=1, independent=True)
        query: Any = self.jigsaw(state).apply({"params": params["jigsaw"]}, patches.features, order)
        keys = after.queue[:size]  # MoCo has just pushed them
        jigsaw_loss = info_nce(normalize(query), keys, state.queue, self.temperature)
        loss = (1 - self.weight) * whole_loss + self.weight * jigsaw_loss
        return loss, (after._replace(stats=stats), metrics | {"jigsaw_loss": jigsaw_loss})

    def after_step(self, params, state, step):
        _, state = super().after_step({name: params[name] for name in state.target}, state, step)
        return params, state

    def jigsaw(self, state) -> Jigsaw:
        return Jigsaw(state.queue.shape[-1])


def whole(batch):
    """Returns the batch without patches."""
    return batch | {"views": batch["views"][:1]}
