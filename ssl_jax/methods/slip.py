"""SLIP: CLIP on one view of an image, and SimCLR on its others."""

import dataclasses
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.fields import not_negative, positive
from ssl_jax.language import Objective, check_pairs, clip_scale, embed_text, first_scale, first_text, match
from ssl_jax.losses import mean_over_pairs, nt_xent
from ssl_jax.method import Method, PyTree, Result, apply, initialize
from ssl_jax.networks import MLP, TextTower


@dataclasses.dataclass(frozen=True)
class SLIP(Method):
    """Self-supervision meets Language-Image Pre-training (Mu et al. 2021, arXiv:2112.12750), Algorithm 1.

    The caption belongs to the first view. `head` is SimCLR's, on the encoder's features; each view goes through it on
    its own. SimCLR's loss is the mean of its two directions, as in the paper.
    """

    text: TextTower
    head: MLP
    weight: Annotated[float, not_negative] = 1.0  # c, of SimCLR's loss
    temperature: Annotated[float, positive] = 0.1  # of SimCLR's loss
    objective: Objective = "softmax"
    needs_text = True
    least_batch = 2
    large_views = 3

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics of the network
        head_stats: PyTree  # and of the head

    def check(self, batch):
        super().check(batch)
        check_pairs(self.network, self.text, batch)

    def init(self, key, batch):
        variables, shapes = initialize(self.network, key, batch["views"])
        head = self.head.init(jax.random.fold_in(key, 2), shapes.features[:, 0], train=True)
        text = first_text(self.text, jax.random.fold_in(key, 1), batch)
        scale = first_scale(self.objective)
        params = {"network": variables.params, "text": text, "scale": scale, "head": head["params"]}
        return params, self.State(variables.stats, head.get("batch_stats", {}))

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        text = embed_text(self.network, self.text, params, batch["text"])
        clip_loss, metrics = match(self.objective, params["scale"], outputs.projection[:, :1], text)

        z, head_stats = self.project(params["head"], state.head_stats, outputs.features[:, 1:])
        pairs = batch["views"].without(0).pairs
        both = mean_over_pairs(pairs, lambda a, b: nt_xent(jnp.stack([z[:, a], z[:, b]], axis=1), self.temperature))
        ssl_loss = both / 2

        metrics |= {"clip_loss": clip_loss, "ssl_loss": ssl_loss}
        if "uniform_loss" in metrics:
            metrics["uniform_loss"] += self.weight * jnp.log(2.0 * len(z) - 1)
        state = self.State(stats, head_stats)
        return Result(clip_loss + self.weight * ssl_loss, state, metrics, outputs.features[:, 0], outputs.projection)

    def project(self, params, stats, features):
        """Returns what the head makes of features [B, V, D], view by view, and its new statistics."""
        projections: list[Any] = []
        for view in jnp.unstack(features, axis=1):
            tree = {"params": params, "batch_stats": stats}
            z, updated = self.head.apply(tree, view, train=True, mutable=["batch_stats"])
            stats = updated.get("batch_stats", stats)
            projections.append(z)
        return jnp.stack(projections, axis=1), stats

    def after_step(self, params, state, key, step):
        return params | {"scale": clip_scale(params["scale"])}, state
