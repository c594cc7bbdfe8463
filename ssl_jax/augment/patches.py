"""Views that are the patches of one crop, in a grid."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Grid:
    """Square cells of a square crop, row by row, with a patch in each. Lengths are in pixels of the resized crop."""

    side: int  # rows, and as many columns
    cell: int  # side of a cell; a smaller patch lies anywhere in it
    stride: int  # from a cell to the next; cells overlap where it is less than their side

    @property
    def size(self) -> int:
        """Side of the crop."""
        return self.cell + (self.side - 1) * self.stride


def patch_box(grid: Grid, patch: int, cell: jax.Array, uniform: jax.Array, crop: jax.Array, flip: jax.Array):
    """Where a patch lies in the image; resampled to its size it is what resizing the crop and cutting it out gives.

    Args:
        grid: of the crop.
        patch: side of the patch in pixels of the resized crop, at most that of a cell.
        cell: int [], which one, counted along the rows.
        uniform: [2], uniform numbers: the place in the cell.
        crop: int [4], (top, left, height, width) in the image.
        flip: bool [], whether the crop is mirrored left and right.

    Returns:
        Float [4], (top, left, height, width) in the image.
    """
    corner = grid.stride * jnp.stack([cell // grid.side, cell % grid.side]).astype(float)
    corner += jnp.floor(uniform * (grid.cell - patch + 1))
    mirrored = jnp.stack([corner[0], grid.size - patch - corner[1]])
    scale = crop[2:].astype(float) / grid.size
    return jnp.concatenate([crop[:2].astype(float) + scale * jnp.where(flip, mirrored, corner), scale * patch])


def cut(images: jax.Array, grid: Grid) -> jax.Array:
    """Cuts images [B, H, W, C] into all the cells they have room for: [B, N, cell, cell, C], row by row."""

    def cells(length):
        start = jnp.arange(0, length - grid.cell + 1, grid.stride)
        return start[:, None] + jnp.arange(grid.cell)[None, :]

    batch, height, width, channels = images.shape
    parts = images[:, cells(height)][:, :, :, cells(width)].swapaxes(2, 3)
    return parts.reshape(batch, -1, grid.cell, grid.cell, channels)
