"""SimSiam: predict another view, with a stopped gradient instead of negatives or a moving average."""

import dataclasses

import jax

from ssl_jax.losses import cross_views, negative_cosine_similarity
from ssl_jax.method import Method, Result, apply


@dataclasses.dataclass(frozen=True)
class SimSiam(Method):
    """Exploring Simple Siamese Representation Learning (Chen and He 2020, arXiv:2011.10566), Algorithm 1."""

    stop_gradient: bool = True  # on the target; without it the representation collapses (section 4.1)
    large_views = 2

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        target = outputs.projection[:, : batch["views"].large.total]
        target = jax.lax.stop_gradient(target) if self.stop_gradient else target
        similarity = negative_cosine_similarity(outputs.prediction[:, None], target[:, :, None])  # [B, A, V]
        loss = cross_views(similarity)
        return Result(loss, self.State(stats), {}, outputs.features[:, 0], outputs.projection)
