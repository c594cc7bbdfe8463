"""Shared by methods that hide patches of one view from a vision transformer."""

import jax

from ssl_jax.augment import Views
from ssl_jax.errors import UserError
from ssl_jax.networks import Network, ViT


def check_masked(network: Network, views: Views) -> None:
    """Checks that there is one view, and an encoder whose patches can be hidden.

    Raises:
        UserError: if not.
    """
    if views.total != 1:
        raise UserError(
            f"the method hides patches of one view of an image, but the recipe makes {views.total} views; "
            "set augment.recipe=mae, without augment.small_views"
        )
    if not isinstance(network.encoder, ViT):
        raise UserError("the method hides patches, and a ResNet has none; choose a ViT as network.encoder.name")


def grid_of(network: Network, images: jax.Array) -> tuple[int, int]:
    """Returns the rows and columns of patches of images [..., H, W, C]."""
    patch = network.encoder.stride
    return images.shape[-3] // patch, images.shape[-2] // patch
