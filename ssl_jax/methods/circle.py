"""Circle loss: weight each similarity by its distance from the optimum."""

import dataclasses

from ssl_jax.losses import circle
from ssl_jax.method import Method, Result, apply
from ssl_jax.methods.labelled import labelled_rows


@dataclasses.dataclass(frozen=True)
class Circle(Method):
    """Circle Loss (Sun et al. 2020, arXiv:2002.10857), section 3.2."""

    margin: float = 0.25  # m
    scale: float = 256.0  # gamma
    needs_labels = True
    least_batch = 2
    feature = "projection"

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        embedding, label = labelled_rows(outputs.projection, batch["label"])
        loss = circle(embedding, label, self.margin, self.scale)
        return Result(loss, self.State(stats), {}, outputs.features[:, 0], outputs.projection)
