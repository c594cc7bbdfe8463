"""Supervised InfoNCE: match each pair of a class, against the rows of other classes."""

import dataclasses
from typing import Annotated

from ssl_jax.fields import positive
from ssl_jax.losses import supervised_info_nce
from ssl_jax.method import Method, Result, apply
from ssl_jax.methods.labelled import labelled_rows


@dataclasses.dataclass(frozen=True)
class SupervisedInfoNCE(Method):
    """N-pair loss (Sohn 2016, doi:10.5555/3157096.3157304), equation 6, over all pairs, with a temperature."""

    temperature: Annotated[float, positive] = 0.1  # tau
    needs_labels = True
    least_batch = 2
    feature = "projection"

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        embedding, label = labelled_rows(outputs.projection, batch["label"])
        loss = supervised_info_nce(embedding, label, self.temperature)
        return Result(loss, self.State(stats), {}, outputs.features[:, 0], outputs.projection)
