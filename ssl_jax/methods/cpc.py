"""CPC: predict patches of an image from those some rows above, among all patches of the batch."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ssl_jax.augment import Grid, cut
from ssl_jax.errors import UserError
from ssl_jax.losses import patch_info_nce
from ssl_jax.method import Method, Result, apply, encode, initialize
from ssl_jax.networks import Context, PatchPrediction
from ssl_jax.numeric import as_rows


@dataclasses.dataclass(frozen=True)
class CPC(Method):
    """Contrastive Predictive Coding (v1: arXiv:1807.03748, v2: arXiv:1905.09272).

    The views are the patches of a grid. The encoder sees each patch separately; the norms of the papers do not mix
    patches either.

    Source: van den Oord et al. 2018, equation 4; Hénaff et al. 2019, the pseudo-code.
    """

    grid: Grid | None
    ignore: int = 2  # nearest rows below, which are too near to be predicted
    steps: int = 3  # farthest row below to predict
    directions: int = 4  # directions of prediction; 1: only downwards (v1)
    dimension: int = 64  # of targets and predictions
    hidden: int = 256  # channels inside the blocks of the context network
    scale: float = 0.1  # of the predictions
    mixes_sizes = False
    large_views = 0

    def check(self, batch):
        super().check(batch)
        if self.grid is None:
            raise UserError("CPC needs views that are the patches of a grid; set augment.recipe=cpc")
        if not 0 <= self.ignore < self.steps < self.grid.side:
            raise UserError(
                f"a grid of {self.grid.side} rows cannot predict {self.ignore + 1} to {self.steps} rows ahead; "
                f"set 0 <= method.ignore < method.steps < {self.grid.side}"
            )
        if self.directions not in (1, 2, 3, 4):
            raise UserError(f"method.directions is {self.directions}; set it to 1, 2, 3 or 4")

    def init(self, key, batch):
        variables, shapes = initialize(self.network, key, batch["views"].patch)
        latents = jnp.zeros(self.latents(shapes).shape)
        prediction = self.prediction.init(jax.random.fold_in(key, 1), latents)["params"]
        return {"network": variables.params, "prediction": prediction}, self.State(variables.stats)

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"].patch, key)
        grids: Any = self.prediction.apply({"params": params["prediction"]}, self.latents(outputs))
        targets, predictions = grids
        losses = []
        for turn in range(self.directions):
            target = jnp.rot90(targets, turn, (1, 2))
            for k, below in enumerate(self.offsets):
                guess, answer = self.scale * predictions[turn, :, :-below, :, k], target[:, below:]
                losses.append(patch_info_nce(as_rows(guess), as_rows(answer), as_rows(target), included=True))
        metrics = {"uniform_loss": jnp.log(targets[..., 0].size * 1.0)}
        features = jnp.mean(outputs.features, axis=1)
        return Result(jnp.mean(jnp.stack(losses)), self.State(stats), metrics, features, features)

    def represent(self, params, state, images, layers=0):
        """Returns the mean [B, D] over the encoded patches of images [B, H, W, C] that are at least one patch large."""
        patches = cut(images, self.grid)
        rows = patches.reshape(-1, *patches.shape[2:])
        latents = encode(self.network, self.variables(params, state), rows, layers)
        return jnp.mean(latents.reshape(*patches.shape[:2], -1), axis=1)

    @property
    def offsets(self) -> range:
        """The distances, in rows, of the predicted rows."""
        return range(self.ignore + 1, self.steps + 1)

    @property
    def prediction(self) -> PatchPrediction:
        return PatchPrediction(self.directions, len(self.offsets), self.dimension, Context(hidden=self.hidden))

    def latents(self, outputs):
        """Returns the features of the patches in their grid, [B, S, S, D]."""
        batch, _, size = outputs.features.shape
        return outputs.features.reshape(batch, self.grid.side, self.grid.side, size)
