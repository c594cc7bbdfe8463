"""MoCo v3: match predictions to the keys of the other view, among the keys of the batch."""

import dataclasses
from typing import Annotated, NamedTuple

import jax.numpy as jnp

from ssl_jax.fields import positive
from ssl_jax.losses import info_nce_pairs, mean_over_pairs
from ssl_jax.method import Decay, Method, PyTree, Result, Variables, apply, follow, initialize
from ssl_jax.numeric import l2_normalize


@dataclasses.dataclass(frozen=True)
class MoCoV3(Method):
    """Training Self-Supervised Vision Transformers (Chen et al. 2021, arXiv:2104.02057), Algorithm 1.

    Every large view is the key of all other views. The paper updates the key encoder before it encodes the keys; to
    update it after the step gives the same sequence. The authors freeze a ViT's random patch projection; here an
    optimiser rule of the config does.
    """

    decay: Decay  # m of the key encoder: 0.99 -> 1 along a cosine
    temperature: Annotated[float, positive] = 0.2  # tau
    large_views = 2
    least_batch = 2

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics of the query encoder
        target: Variables  # the key encoder: moving average of the query encoder

    def init(self, key, batch):
        variables, _ = initialize(self.network, key, batch["views"])
        return {"network": variables.params}, self.State(variables.stats, variables)

    def loss(self, params, state, batch, key, step):
        views, tau = batch["views"], self.temperature
        online, stats = apply(self.network, self.variables(params, state), views, key)
        target, target_stats = apply(self.network, state.target, views.large)
        q, k = l2_normalize(online.prediction), l2_normalize(target.projection)
        # The paper adds the two directions.
        loss = 2 * mean_over_pairs(views.directions, lambda a, v: info_nce_pairs(q[:, v], k[:, a], tau))
        metrics = {"uniform_loss": 4 * tau * jnp.log(1.0 * len(q))}
        state = self.State(stats, state.target._replace(stats=target_stats))
        return Result(loss, state, metrics, online.features[:, 0], online.projection)

    def after_step(self, params, state, key, step):
        return params, state._replace(target=follow(state.target, params["network"], self.decay(step + 1)))
