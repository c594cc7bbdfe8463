"""SimSiam: each view predicts the other, which stands still: no negatives, no moving average."""

import dataclasses

import jax
import jax.numpy as jnp

from ssl_jax.losses import negative_cosine_similarity
from ssl_jax.method import Method, apply, two_views


@dataclasses.dataclass(frozen=True)
class SimSiam(Method):
    """Exploring Simple Siamese Representation Learning (Chen and He 2020, arXiv:2011.10566), Algorithm 1."""

    stop_gradient: bool = True  # on the target; without it everything collapses to one point (section 4.1)

    def loss(self, params, state, batch, key, step):
        two_views(batch["views"])
        outputs, stats = apply(self.network, params, state.stats, batch["views"])
        target = outputs.projection[:, ::-1]  # each view predicts the other
        target = jax.lax.stop_gradient(target) if self.stop_gradient else target
        loss = jnp.mean(negative_cosine_similarity(outputs.prediction, target))
        return loss, (self.State(stats), {"outputs": outputs})
