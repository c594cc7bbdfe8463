"""SimCLR: match the other view of the same image, among all views of the batch."""

import dataclasses
from typing import Annotated

import jax.numpy as jnp

from ssl_jax.fields import positive
from ssl_jax.losses import mean_over_pairs, nt_xent
from ssl_jax.method import Method, Result, apply


@dataclasses.dataclass(frozen=True)
class SimCLR(Method):
    """A Simple Framework for Contrastive Learning (Chen et al. 2020, arXiv:2002.05709), Algorithm 1.

    The loss is the sum of the two directions, as in the authors' code: twice the paper's mean over 2N anchors.
    """

    temperature: Annotated[float, positive] = 0.1  # tau
    large_views = 2
    least_batch = 2

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        z, pairs = outputs.projection, batch["views"].pairs
        loss = mean_over_pairs(pairs, lambda a, b: nt_xent(jnp.stack([z[:, a], z[:, b]], axis=1), self.temperature))
        metrics = {"uniform_loss": 2 * jnp.log(2.0 * len(z) - 1)}
        return Result(loss, self.State(stats), metrics, outputs.features[:, 0], z)
