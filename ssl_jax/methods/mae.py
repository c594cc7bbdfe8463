"""MAE: encode a quarter of the patches of an image, and predict the pixels of the others."""

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from ssl_jax.augment import Views
from ssl_jax.errors import UserError
from ssl_jax.fields import share
from ssl_jax.masking import random_order
from ssl_jax.method import Method, Result, apply, initialize
from ssl_jax.methods.masked import check_masked, whole_features
from ssl_jax.networks import Decoder
from ssl_jax.numeric import widen
from ssl_jax.patches import fill, grid_of, moments, patchify


@dataclasses.dataclass(frozen=True)
class MAE(Method):
    """Masked Autoencoder (He et al. 2021, arXiv:2111.06377), section 3.

    The decoder gets the visible patches and the features of the visible part: the class token, if there is one.
    """

    decoder: Decoder
    ratio: Annotated[float, share] = 0.75  # share of the patches that are hidden
    normalize: bool = True  # whether a patch is predicted with its mean 0 and its variance 1
    mixes_sizes = False

    def check(self, batch):
        super().check(batch)
        check_masked(self.network, batch["views"])
        rows, columns = grid_of(self.network, batch["views"][0])
        visible = self.visible(rows * columns)
        if not 0 < visible < rows * columns:
            raise UserError(
                f"method.ratio is {self.ratio}, which leaves {visible} of {rows * columns} patches visible; set it so "
                "that some are visible and some are hidden, such as to 0.75"
            )

    def init(self, key, batch):
        variables, shapes = initialize(self.network, key, batch["views"])
        images = batch["views"][0][:, 0]
        target = self.target(images)
        order = random_order(key, *target.shape[:2])
        encoded = shapes.patches[0][:, 0], order, grid_of(self.network, images), target.shape[2], shapes.features[:, 0]
        decoder = self.decoder.init(jax.random.fold_in(key, 1), *encoded)["params"]
        return {"network": variables.params, "decoder": decoder}, self.State(variables.stats)

    def loss(self, params, state, batch, key, step):
        images = batch["views"][0][:, 0]
        rows, columns = grid_of(self.network, images)
        order = random_order(jax.random.fold_in(key, 1), len(images), rows * columns)
        prediction, outputs, stats = self.predict(params, state, images, order, key)
        loss = self.error(prediction, images, order)
        metrics = {"uniform_loss": self.error(jnp.zeros_like(prediction), images, order)}  # the mean is predicted
        features = whole_features(self.network, self.variables(params, state), images)
        return Result(loss, self.State(stats), metrics, features, outputs.features)

    def predict(self, params, state, images, order, key=None) -> tuple[jax.Array, Any, Any]:
        """Predicts patches from those that come first in an order.

        Args:
            params: of the method.
            state: of the method.
            images: [B, H, W, C], normalised.
            order: int [B, S], all patches of each image.
            key: switches drop-path on.

        Returns:
            Predictions [B, S, D] of the patches in their order, and the network's outputs and new statistics.
        """
        keep = order[:, None, : self.visible(order.shape[1])]
        outputs, stats = apply(self.network, self.variables(params, state), Views([images[:, None]]), key, keep=(keep,))
        size = images.shape[-1] * self.network.encoder.stride**2
        encoded = outputs.patches[0][:, 0], order, grid_of(self.network, images), size, outputs.features[:, 0]
        prediction: Any = self.decoder.apply({"params": params["decoder"]}, *encoded)
        return prediction, outputs, stats

    def error(self, prediction: jax.Array, images: jax.Array, order: jax.Array) -> jax.Array:
        """Returns the mean squared error of predictions [B, S, D], in their order, of the hidden patches: the last."""
        target = jnp.take_along_axis(self.target(images), order[:, :, None], axis=1)
        visible = self.visible(order.shape[1])
        return jnp.mean(jnp.square(prediction - target)[:, visible:])

    def reconstruct(self, params, state, images, key) -> tuple[jax.Array, jax.Array]:
        """Hides patches of images, and predicts them.

        If patches are normalised, their means and deviations are the true ones: the method does not predict them.

        Args:
            params: of the method.
            state: of the method.
            images: [B, H, W, C], normalised.
            key: a PRNG key that chooses the patches.

        Returns:
            Two copies of the images. In the hidden patches one is 0, the mean colour, and the other has the prediction.
        """
        patch = self.network.encoder.stride
        mean, deviation = self.moments(patchify(images, patch))
        order = random_order(key, *mean.shape[:2])
        place = jnp.argsort(order, axis=1)  # of each patch in the order
        prediction, _, _ = self.predict(params, state, images, order)
        predicted = jnp.take_along_axis(prediction, place[:, :, None], axis=1) * deviation + mean
        hidden = place >= self.visible(order.shape[1])
        return fill(images, hidden, patch, 0.0), fill(images, hidden, patch, predicted)

    def target(self, images: jax.Array) -> jax.Array:
        """Returns what is to be predicted of the patches of images [B, H, W, C]: [B, S, D]."""
        patches = patchify(widen(images), self.network.encoder.stride)
        mean, deviation = self.moments(patches)
        return (patches - mean) / deviation

    def moments(self, patches: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns what is subtracted from each patch, and what it is then divided by: [B, S, 1]."""
        mean, deviation = moments(patches)
        return (mean, deviation) if self.normalize else (jnp.zeros_like(mean), jnp.ones_like(deviation))

    def visible(self, patches: int) -> int:
        """Returns how many patches of an image the encoder sees."""
        return int(patches * (1 - self.ratio))
