"""The output of every encoder."""

import jax
from flax import struct


@struct.dataclass
class Encoding:
    """The encoding of N images. `patches` and `layers` keep the dtype of the computation."""

    pooled: jax.Array  # [N, D], the features of each image
    patches: jax.Array  # [N, S, C], the last map or the last patch tokens, row by row; no class or register tokens
    grid: tuple[int, int] = struct.field(
        pytree_node=False
    )  # (rows, columns) of the image's patches; S is their product
    layers: tuple[jax.Array, ...] = ()  # [N, S_i, C_i] after each stage or block, first to last
