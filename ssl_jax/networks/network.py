"""How an encoder and its heads compose, and which views share a pass."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError, nearest
from ssl_jax.numeric import widen

PASSES = ("view", "resolution")


class Outputs(NamedTuple):
    """What a network says of each view; None where there is no such head. Views come in the order of the input."""

    features: jax.Array  # [B, V, D] of the encoder
    projection: jax.Array | None = None  # [B, V, D] of the projector
    prediction: jax.Array | None = None  # [B, V, D] of the predictor


class Network(nn.Module):
    """An encoder, a projector on its features and a predictor on the projection.

    `passes` decides which views share a pass, and so the statistics of a BatchNorm. With "view" each view has its own
    pass through everything, and running statistics move once per view. With "resolution" all views of a resolution
    share a pass through the encoder, and all views of any resolution one pass through the heads.

    Attributes:
        encoder: images [N, H, W, C] -> features [N, D].
        projector: features [B, V, D] -> projection, or None.
        predictor: projection -> prediction, or None.
        passes: "view" or "resolution".
    """

    encoder: nn.Module
    projector: nn.Module | None = None
    predictor: nn.Module | None = None
    passes: str = "view"

    def __call__(self, views: tuple[jax.Array, ...], train: bool = False) -> Outputs:
        """Returns the outputs for the views, one array [B, V, H, W, C] per resolution, in float32 or wider."""
        if self.passes == "resolution":
            return self.heads(join([self.features(x, train) for x in views]), train)
        if self.passes != "view":
            raise UserError(f"passes cannot be {self.passes!r}; {nearest(self.passes, PASSES)}")
        each = [x[:, i : i + 1] for x in views for i in range(x.shape[1])]
        outputs = [self.heads(self.features(x, train), train) for x in each]
        return Outputs(*(None if parts[0] is None else join(parts) for parts in zip(*outputs, strict=True)))

    def encode(self, images: jax.Array) -> jax.Array:
        """Returns the features [B, D] of images [B, H, W, C], each independent of the others."""
        return widen(self.encoder(images, train=False))

    def features(self, views, train):
        batch, count = views.shape[:2]
        features = self.encoder(views.reshape(batch * count, *views.shape[2:]), train=train)
        return features.reshape(batch, count, -1)

    def heads(self, features, train):
        projection = None if self.projector is None else self.projector(features, train=train)
        prediction = None if self.predictor is None else self.predictor(projection, train=train)
        return Outputs(*(None if x is None else widen(x) for x in (features, projection, prediction)))


def join(parts):
    return jnp.concatenate(parts, axis=1)
