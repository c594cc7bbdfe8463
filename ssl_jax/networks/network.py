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
    maps: jax.Array | None = None  # [B, V, S, C] of the encoder, at S positions: with a dense head or if asked for
    dense: jax.Array | None = None  # [B, V, S, D] of the dense head


class Network(nn.Module):
    """An encoder, a projector on its features and a predictor on the projection.

    `passes` decides which views share a pass, and so the statistics of a BatchNorm. With "view" each view has its own
    pass through everything, and running statistics move once per view. With "resolution" all views of a resolution
    share a pass through the encoder, and all views of any resolution one pass through the heads.

    Attributes:
        encoder: images [N, H, W, C] -> features [N, D].
        projector: features [B, V, D] -> projection, or None.
        predictor: projection -> prediction, or None.
        dense: the encoder's last maps [B, V, S, C] -> [B, V, S, D], for views of one resolution, or None.
        passes: "view" or "resolution".
        maps: whether outputs hold the encoder's last maps although there is no dense head.
    """

    encoder: nn.Module
    projector: nn.Module | None = None
    predictor: nn.Module | None = None
    dense: nn.Module | None = None
    passes: str = "view"
    maps: bool = False

    def __call__(self, views: tuple[jax.Array, ...], train: bool = False) -> Outputs:
        """Returns the outputs for the views, one array [B, V, H, W, C] per resolution, in float32 or wider."""
        if self.passes not in PASSES:
            raise UserError(f"passes cannot be {self.passes!r}; {nearest(self.passes, PASSES)}")
        if self.passes == "resolution":
            return self.heads(join([self.features(x, train) for x in views]), train)
        each = [x[:, i : i + 1] for x in views for i in range(x.shape[1])]
        return join([self.heads(self.features(x, train), train) for x in each])

    def encode(self, images: jax.Array, layers: int = 0) -> jax.Array:
        """Returns the features [B, D] of images [B, H, W, C], each independent of the others.

        Args:
            images: normalised.
            layers: of the projector that they go on through, from 0 to all of its hidden ones. From the middle of the
                head is where SimCLR v2 fine-tunes (Chen et al. 2020, arXiv:2006.10029, section 2).

        Raises:
            UserError: the projector has not so many hidden layers.
        """
        hidden = getattr(self.projector, "layers", 1) - 1
        if not 0 <= layers <= hidden:
            raise UserError(f"features cannot go on through {layers} layers of a projector with {hidden} hidden ones")
        features = self.encoder(images, train=False)
        return widen(self.projector(features, stop=layers) if layers else features)

    def features(self, views, train):
        """The encoder's share of the outputs."""
        batch, count = views.shape[:2]
        images = views.reshape(batch * count, *views.shape[2:])
        if self.dense is None and not self.maps:
            return Outputs(self.encoder(images, train=train).reshape(batch, count, -1))
        if not hasattr(self.encoder, "maps"):
            raise UserError(f"this method looks at maps, which a {type(self.encoder).__name__} has not; take a ResNet")
        maps = self.encoder.maps(images, train)[-1]
        maps = maps.reshape(batch, count, -1, maps.shape[-1])
        return Outputs(widen(maps).mean(2), maps=maps)

    def heads(self, outputs, train):
        """The outputs with the heads' share."""
        projection = None if self.projector is None else self.projector(outputs.features, train=train)
        prediction = None if self.predictor is None else self.predictor(projection, train=train)
        dense = None if self.dense is None else self.dense(outputs.maps, train=train)
        outputs = outputs._replace(projection=projection, prediction=prediction, dense=dense)
        return jax.tree.map(widen, outputs)


def join(parts):
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays, axis=1), *parts)
