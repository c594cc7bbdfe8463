"""InvaSpread: bring two views of an image together, and spread the other images of the batch."""

import dataclasses
from typing import Annotated

import jax.numpy as jnp

from ssl_jax.fields import positive
from ssl_jax.losses import mean_over_pairs, spread_out
from ssl_jax.method import Method, Result, apply
from ssl_jax.numeric import l2_normalize


@dataclasses.dataclass(frozen=True)
class InvaSpread(Method):
    """Embedding Learning via Invariant and Spreading Instance Feature (Ye et al. 2019, arXiv:1904.03436), section 3."""

    temperature: Annotated[float, positive] = 0.1  # tau
    weight: float = 1.0  # of the negatives
    large_views = 2
    least_batch = 2
    feature = "projection"

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        z, pairs = l2_normalize(outputs.projection), batch["views"].pairs

        def of_pair(a, b):
            return spread_out(jnp.stack([z[:, a], z[:, b]], axis=1), self.temperature, self.weight)

        loss = mean_over_pairs(pairs, of_pair)
        return Result(loss, self.State(stats), {}, outputs.features[:, 0], z)
