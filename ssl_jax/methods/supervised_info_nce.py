"""Supervised InfoNCE: each pair of one class against the rows of other classes."""

import dataclasses

from ssl_jax.losses import supervised_info_nce
from ssl_jax.method import Method, apply, labelled_rows


@dataclasses.dataclass(frozen=True)
class SupervisedInfoNCE(Method):
    """N-pair loss (Sohn 2016, doi:10.5555/3157096.3157304), equation 6, over all pairs, with a temperature."""

    temperature: float = 0.1  # tau
    needs_labels = True

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, params, state.stats, batch["views"])
        embedding, label = labelled_rows(outputs.projection, batch["label"])
        return supervised_info_nce(embedding, label, self.temperature), (self.State(stats), {"outputs": outputs})
