"""Triplet loss: rows are nearer to their own class than to another, by a margin."""

import dataclasses

from ssl_jax.losses import triplet
from ssl_jax.method import Method, Result, apply
from ssl_jax.methods.labelled import labelled_rows


@dataclasses.dataclass(frozen=True)
class Triplet(Method):
    """FaceNet (Schroff et al. 2015, arXiv:1503.03832), equation 3; batch hard: Hermans et al. (arXiv:1703.07737)."""

    margin: float = 0.2
    mining: str = "semihard"  # all, hard, semihard or batch_hard
    squared: bool = False  # whether distances are squared
    needs_labels = True
    least_batch = 2
    feature = "projection"

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        embedding, label = labelled_rows(outputs.projection, batch["label"])
        loss = triplet(embedding, label, self.margin, self.mining, self.squared)
        return Result(loss, self.State(stats), {}, outputs.features[:, 0], outputs.projection)
