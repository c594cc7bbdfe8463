"""SupCon: SimCLR in which all views of all images of a class are positives."""

import dataclasses
from typing import Annotated

import jax.numpy as jnp

from ssl_jax.fields import positive
from ssl_jax.losses import supervised_contrastive
from ssl_jax.method import Method, Result, apply
from ssl_jax.methods.labelled import labelled_rows


@dataclasses.dataclass(frozen=True)
class SupCon(Method):
    """Supervised Contrastive Learning (Khosla et al. 2020, arXiv:2004.11362), equation 2, scaled as in their code."""

    temperature: Annotated[float, positive] = 0.1  # tau
    base_temperature: Annotated[float, positive] = 0.07  # the loss is multiplied by tau over this
    needs_labels = True
    least_batch = 2

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        embedding, label = labelled_rows(outputs.projection, batch["label"])
        loss = jnp.mean(supervised_contrastive(embedding, label, self.temperature))
        metrics = {"uniform_loss": self.scale * jnp.log(len(label) - 1.0)}
        return Result(self.scale * loss, self.State(stats), metrics, outputs.features[:, 0], outputs.projection)

    @property
    def scale(self) -> float:
        return self.temperature / self.base_temperature
