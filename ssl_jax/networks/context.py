"""Contrastive predictive coding's network on a grid of latents: context from above, predictions of what is below."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Context(nn.Module):
    """Latents [B, R, C, D] -> context of that shape, in which row r depends on rows up to r only.

    Residual blocks of masked convolutions, from the pseudo-code of CPC v2 (Hénaff et al. 2019, arXiv:1905.09272).

    Attributes:
        blocks: their number; with each, a position sees one row more above and one column more to both sides.
        hidden: channels inside a block.
    """

    blocks: int = 5
    hidden: int = 256

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        for i in range(1, self.blocks + 1):
            y = nn.relu(nn.Conv(self.hidden, (1, 1), name=f"block{i}_in")(x))
            y = nn.Conv(self.hidden, (1, 3), name=f"block{i}_columns")(y)
            y = nn.relu(nn.Conv(self.hidden, (2, 1), padding=((1, 0), (0, 0)), name=f"block{i}_rows")(y))
            x = x + nn.Conv(channels, (1, 1), name=f"block{i}_out")(y)
        return nn.relu(x)


class PatchPrediction(nn.Module):
    """Latents [B, S, S, D] of a square grid -> targets [B, S, S, E] and predictions [T, B, S, S, K, E] in T directions.

    Predictions are made from the grid turned t quarters: at row r, of the targets, turned alike, below r. All
    directions share context and targets.

    Attributes:
        directions: T, 1 (from the top down) to 4.
        offsets: K, predictions at each position.
        dimension: E.
        context: the context network.
    """

    directions: int
    offsets: int
    dimension: int
    context: nn.Module

    @nn.compact
    def __call__(self, latents: jax.Array) -> tuple[jax.Array, jax.Array]:
        targets = nn.Dense(self.dimension, use_bias=False, name="target")(latents)
        predictions = [
            nn.DenseGeneral((self.offsets, self.dimension), name=f"predictor{turn}")(
                self.context(jnp.rot90(latents, turn, (1, 2)))
            )
            for turn in range(self.directions)
        ]
        return targets, jnp.stack(predictions)
