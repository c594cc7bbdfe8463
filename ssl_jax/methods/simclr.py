"""SimCLR: agree with the other view of the same image, against every other image of the batch."""

import dataclasses

import jax.numpy as jnp

from ssl_jax.losses import nt_xent
from ssl_jax.method import Method, apply


@dataclasses.dataclass(frozen=True)
class SimCLR(Method):
    """A Simple Framework for Contrastive Learning (Chen et al. 2020, arXiv:2002.05709), Algorithm 1.

    The loss is the sum of the two directions, as in the authors' code: twice the paper's mean over 2N anchors.
    """

    temperature: float = 0.1  # tau

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, params, state.stats, batch["views"])
        loss = nt_xent(outputs.projection, self.temperature)
        rows = outputs.projection.shape[0] * outputs.projection.shape[1]
        return loss, (self.State(stats), {"outputs": outputs, "uniform_loss": 2 * jnp.log(rows - 1.0)})
