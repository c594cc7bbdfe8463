"""Images as rows of patches, and back."""

from typing import Any

import jax
import jax.numpy as jnp


def grid_of(network: Any, images: jax.Array) -> tuple[int, int]:
    """Returns the rows and columns of the patches that the encoder of a network makes of images [..., H, W, C]."""
    stride = network.encoder.stride
    return images.shape[-3] // stride, images.shape[-2] // stride


def patchify(images: jax.Array, patch: int) -> jax.Array:
    """Returns images [B, H, W, C] as patches [B, S, patch * patch * C], row by row; so are the pixels of a patch."""
    batch, height, width, channels = images.shape
    x = images.reshape(batch, height // patch, patch, width // patch, patch, channels).swapaxes(2, 3)
    return x.reshape(batch, -1, patch * patch * channels)


def unpatchify(patches: jax.Array, grid: tuple[int, int], patch: int) -> jax.Array:
    """Returns the images that `patchify` cut into patches of a grid (rows, columns)."""
    rows, columns = grid
    x = patches.reshape(len(patches), rows, columns, patch, patch, -1).swapaxes(2, 3)
    return x.reshape(len(patches), rows * patch, columns * patch, -1)


def enlarge(x, height: int, patch: int):
    """Returns a value per patch [..., S] of images of some height as pictures [..., H, W], of JAX or of NumPy."""
    return x.reshape(*x.shape[:-1], height // patch, -1).repeat(patch, axis=-2).repeat(patch, axis=-1)


def moments(patches: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns mean and deviation [..., 1] of each patch [..., D], as MAE normalises by (arXiv:2111.06377, section 3).

    The variance is unbiased, and 1e-6 is added to it, as in the authors' code.
    """
    variance = jnp.var(patches, axis=-1, ddof=1, keepdims=True)
    return jnp.mean(patches, axis=-1, keepdims=True), jnp.sqrt(variance + 1e-6)


def fill(images: jax.Array, hidden: jax.Array, patch: int, predicted: jax.Array | float) -> jax.Array:
    """Returns images [B, H, W, C] with other pixels [B, S, D] where `hidden`, a bool [B, S]."""
    grid = images.shape[1] // patch, images.shape[2] // patch
    filled = jnp.where(hidden[:, :, None], jnp.asarray(predicted, images.dtype), patchify(images, patch))
    return unpatchify(filled, grid, patch)
