"""BYOL: the online network predicts what its own moving average says of another view."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp

from ssl_jax.losses import squared_cosine_distance
from ssl_jax.method import Method, PyTree, Schedule, apply, ema, initialize, two_views


@dataclasses.dataclass(frozen=True)
class BYOL(Method):
    """Bootstrap Your Own Latent (Grill et al. 2020, arXiv:2006.07733), Algorithm 1."""

    decay: Schedule  # tau of the target: 0.996 -> 1 along a cosine

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics of the online network
        target: PyTree  # moving average of the online parameters
        target_stats: PyTree

    def init(self, key, batch):
        two_views(batch["views"])
        params, stats = initialize(self.network, key, batch["views"])
        return params, self.State(stats, params, stats)

    def loss(self, params, state, batch, key, step):
        online, stats = apply(self.network, params, state.stats, batch["views"])
        target, target_stats = apply(self.network, state.target, state.target_stats, batch["views"])
        swapped = target.projection[:, ::-1]  # each view predicts the other
        loss = 2 * jnp.mean(squared_cosine_distance(online.prediction, swapped))  # the paper adds the two directions
        return loss, (self.State(stats, state.target, target_stats), {"outputs": online})

    def after_step(self, params, state, step):
        return params, state._replace(target=ema(state.target, params, self.decay(step)))
