"""Barlow Twins: the channels of two views correlate each with itself and with no other."""

import dataclasses

from ssl_jax.losses import barlow_twins
from ssl_jax.method import Method, apply, two_views


@dataclasses.dataclass(frozen=True)
class BarlowTwins(Method):
    """Self-Supervised Learning via Redundancy Reduction (Zbontar et al. 2021, arXiv:2103.03230), Algorithm 1."""

    weight: float = 0.0051  # lambda of the off-diagonal part
    scale: float = 1.0  # of the whole loss

    def loss(self, params, state, batch, key, step):
        two_views(batch["views"])
        outputs, stats = apply(self.network, params, state.stats, batch["views"])
        x, y = outputs.projection[:, 0], outputs.projection[:, 1]
        return self.scale * barlow_twins(x, y, self.weight), (self.State(stats), {"outputs": outputs})
