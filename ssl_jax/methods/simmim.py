"""SimMIM: replace large squares of an image by mask tokens, and predict their pixels linearly."""

import dataclasses
import math
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.augment import Views
from ssl_jax.errors import UserError
from ssl_jax.fields import positive, share
from ssl_jax.masking import random_cells
from ssl_jax.method import Method, Result, apply, initialize
from ssl_jax.methods.masked import check_masked, whole_features
from ssl_jax.numeric import widen
from ssl_jax.patches import fill, grid_of, patchify


@dataclasses.dataclass(frozen=True)
class SimMIM(Method):
    """SimMIM (Xie et al. 2021, arXiv:2111.09886), section 3."""

    square: Annotated[int, positive] = 32  # pixels, side of what is hidden or visible as a whole: one or more patches
    ratio: Annotated[float, share] = 0.6  # share of the squares that are hidden, rounded up
    mixes_sizes = False

    def check(self, batch):
        super().check(batch)
        check_masked(self.network, batch["views"])
        side, patch = batch["views"][0].shape[2], self.network.encoder.stride
        if self.square % patch or side % self.square:
            raise UserError(
                f"method.square is {self.square}; set it to a multiple of the encoder's patch of {patch} pixels that "
                f"divides the views' {side} pixels"
            )
        squares = (side // self.square) ** 2
        if not 0 < self.hidden(squares) < squares:
            raise UserError(
                f"method.ratio is {self.ratio}, which hides {self.hidden(squares)} of {squares} squares; set it so "
                "that some are visible and some are hidden, such as to 0.6"
            )
        if not self.network.encoder.mask_token:
            raise UserError("the hidden patches need a mask token; set network.encoder.mask_token=true")

    def init(self, key, batch):
        variables, shapes = initialize(self.network, key, batch["views"])
        patches = shapes.patches[0][:, 0]
        decoder = self.decoder(batch["views"][0], patches).init(jax.random.fold_in(key, 1), patches)["params"]
        return {"network": variables.params, "decoder": decoder}, self.State(variables.stats)

    def loss(self, params, state, batch, key, step):
        images = batch["views"][0][:, 0]
        mask = self.mask(jax.random.fold_in(key, 1), images)
        prediction, outputs, stats = self.predict(params, state, images, mask, key)
        difference = jnp.abs(prediction - patchify(widen(images), self.network.encoder.stride))
        loss = jnp.mean(difference, where=mask[:, :, None])
        features = whole_features(self.network, self.variables(params, state), images)
        return Result(loss, self.State(stats), {}, features, outputs.features)

    def predict(self, params, state, images, mask, key=None) -> tuple[jax.Array, Any, Any]:
        """Predicts all patches from those that are not masked.

        Args:
            params: of the method.
            state: of the method.
            images: [B, H, W, C], normalised.
            mask: bool [B, S].
            key: switches drop-path on.

        Returns:
            Predictions [B, S, D], and the network's outputs and new statistics.
        """
        view = Views([images[:, None]])
        outputs, stats = apply(self.network, self.variables(params, state), view, key, mask=(mask[:, None],))
        patches = outputs.patches[0][:, 0]
        prediction: Any = self.decoder(images, patches).apply({"params": params["decoder"]}, patches)
        return widen(prediction), outputs, stats

    def reconstruct(self, params, state, images, key) -> tuple[jax.Array, jax.Array]:
        """Hides squares of images, and predicts them.

        Args:
            params: of the method.
            state: of the method.
            images: [B, H, W, C], normalised.
            key: a PRNG key that chooses the squares.

        Returns:
            Two copies of the images. In the hidden squares one is 0, the mean colour, and the other has the prediction.
        """
        mask, patch = self.mask(key, images), self.network.encoder.stride
        prediction, _, _ = self.predict(params, state, images, mask)
        return fill(images, mask, patch, 0.0), fill(images, mask, patch, prediction)

    def mask(self, key: jax.Array, images: jax.Array) -> jax.Array:
        """Returns which patches of images [B, H, W, C] are hidden, bool [B, S]."""
        side, patch = images.shape[1], self.network.encoder.stride
        count = self.hidden((side // self.square) ** 2)
        return random_cells(key, len(images), grid_of(self.network, images), self.square // patch, count)

    def hidden(self, squares: int) -> int:
        """Returns how many of the squares are hidden."""
        return math.ceil(squares * self.ratio)

    def decoder(self, images: jax.Array, patches: jax.Array) -> nn.Dense:
        """Returns the linear map from an encoded patch to its pixels."""
        return nn.Dense(images.shape[-1] * self.network.encoder.stride**2, dtype=patches.dtype)
