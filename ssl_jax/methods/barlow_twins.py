"""Barlow Twins: make the cross-correlation between the channels of two views the identity."""

import dataclasses

from ssl_jax.losses import barlow_twins, mean_over_pairs
from ssl_jax.method import Method, Result, apply


@dataclasses.dataclass(frozen=True)
class BarlowTwins(Method):
    """Self-Supervised Learning via Redundancy Reduction (Zbontar et al. 2021, arXiv:2103.03230), Algorithm 1."""

    weight: float = 0.0051  # lambda of the off-diagonal part
    scale: float = 1.0  # factor of the whole loss
    large_views = 2
    least_batch = 2

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        z, pairs = outputs.projection, batch["views"].pairs
        loss = self.scale * mean_over_pairs(pairs, lambda a, b: barlow_twins(z[:, a], z[:, b], self.weight))
        return Result(loss, self.State(stats), {}, outputs.features[:, 0], z)
