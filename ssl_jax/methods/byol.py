"""BYOL: predict the projection of another view by a moving average of the network."""

import dataclasses
from typing import NamedTuple

from ssl_jax.losses import cross_views, squared_cosine_distance
from ssl_jax.method import Decay, Method, PyTree, Result, Variables, apply, follow, initialize


@dataclasses.dataclass(frozen=True)
class BYOL(Method):
    """Bootstrap Your Own Latent (Grill et al. 2020, arXiv:2006.07733), Algorithm 1."""

    decay: Decay  # tau of the target: 0.996 -> 1 along a cosine
    large_views = 2

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics of the online network
        target: Variables  # moving average of the online network

    def init(self, key, batch):
        variables, _ = initialize(self.network, key, batch["views"])
        return {"network": variables.params}, self.State(variables.stats, variables)

    def loss(self, params, state, batch, key, step):
        online, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        target, target_stats = apply(self.network, state.target, batch["views"].large)
        distance = squared_cosine_distance(online.prediction[:, None], target.projection[:, :, None])  # [B, A, V]
        loss = 2 * cross_views(distance)  # the paper adds the two directions
        state = self.State(stats, state.target._replace(stats=target_stats))
        return Result(loss, state, {}, online.features[:, 0], online.projection)

    def after_step(self, params, state, key, step):
        return params, state._replace(target=follow(state.target, params["network"], self.decay(step)))
