"""InvaSpread: two views are one instance, all else of the batch spreads out."""

import dataclasses

from ssl_jax.losses import spread_out
from ssl_jax.method import Method, apply, two_views
from ssl_jax.numeric import normalize


@dataclasses.dataclass(frozen=True)
class InvaSpread(Method):
    """Embedding Learning via Invariant and Spreading Instance Feature (Ye et al. 2019, arXiv:1904.03436), section 3."""

    temperature: float = 0.1  # tau
    weight: float = 1.0  # of spreading

    def loss(self, params, state, batch, key, step):
        two_views(batch["views"])
        outputs, stats = apply(self.network, params, state.stats, batch["views"])
        loss = spread_out(normalize(outputs.projection), self.temperature, self.weight)
        return loss, (self.State(stats), {"outputs": outputs})
