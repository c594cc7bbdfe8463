"""Shared by methods that hide patches of one view from a vision transformer."""

import math

import jax

from ssl_jax.augment import Views
from ssl_jax.errors import UserError
from ssl_jax.method import Variables, encode
from ssl_jax.networks import Network, ViT

WHOLE = 8  # one image in as many is also encoded without a mask


def check_masked(network: Network, views: Views) -> None:
    """Checks that there is one view, and an encoder whose patches can be hidden.

    Raises:
        UserError: if not.
    """
    if views.total != 1:
        raise UserError(
            f"the method hides patches of one view of an image, but the recipe makes {views.total} views; "
            "set augment.recipe=mae, without augment.small_views, and with several resolution.sizes, "
            "resolution.mode=random"
        )
    if not isinstance(network.encoder, ViT):
        raise UserError("the method hides patches, and a ResNet has none; choose a ViT as network.encoder.name")


def whole_features(network: Network, variables: Variables, images: jax.Array) -> jax.Array:
    """Returns the features [B / k, D] of every k-th of images [B, H, W, C], without a mask, to learn a probe from.

    The probe is tested on whole images, whose features differ from those of masked ones: after three epochs of MAE's
    small recipe, a probe that learned from masked images had 50 %, from all whole ones 57 %, and from every 8th of
    them, so far, 50 %. To encode all images twice would lengthen a step of MAE by about a half. k is 8, or less where
    the batch is no multiple of it.
    """
    some = images.reshape(-1, math.gcd(WHOLE, len(images)), *images.shape[1:])[:, 0]
    return encode(network, jax.lax.stop_gradient(variables), some)
