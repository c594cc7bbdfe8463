"""From an image to patches: one linear map, which other patch sizes resize, or a stack of convolutions."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.networks.norm import Norm
from ssl_jax.networks.positions import stretched
from ssl_jax.patches import patchify


class Projection(nn.Module):
    """Images [N, H, W, C] -> patches [N, H / patch, W / patch, dim] by one linear map.

    Attributes:
        dim: channels.
        patch: side of a patch in pixels.
        stored: side of the patches that the kernel is stored for; it is resized to `patch`.
        kernel_init: of the kernel [stored * stored * C, dim].
        use_bias: whether a bias is added.
        dtype: of the computation; None: that of the images.
    """

    dim: int
    patch: int
    stored: int
    kernel_init: Callable
    use_bias: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        p = self.patch
        batch, height, width, channels = x.shape
        x = patchify(x, p).reshape(batch, height // p, width // p, -1)
        kernel = self.param("kernel", self.kernel_init, (self.stored**2 * channels, self.dim))
        bias = self.param("bias", nn.initializers.zeros, (self.dim,)) if self.use_bias else jnp.zeros(self.dim)
        kernel = resize_kernel(kernel, self.stored, p)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return x @ kernel + bias[None, None, None]


class ConvolutionalStem(nn.Module):
    """Images [N, H, W, C] -> patches [N, H / patch, W / patch, dim] by 3x3 convolutions of stride 2 and one of 1x1.

    Each 3x3 convolution is followed by a BatchNorm and a ReLU, and has twice the channels of the one before, up to
    `dim`. There are log2(patch) of them.

    Source: Xiao et al. 2021 (arXiv:2106.14881), as in the code of MoCo v3 (arXiv:2104.02057).

    Attributes:
        dim: channels.
        patch: side in pixels of the square that a position stands for, a power of 2.
        dtype: of the computation; None: that of the images.
    """

    dim: int
    patch: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        conv = functools.partial(nn.Conv, kernel_init=uniform, dtype=self.dtype)
        layers = self.patch.bit_length() - 1
        for i in range(1, layers + 1):
            width = self.dim // 2 ** (layers - i)
            x = conv(width, (3, 3), (2, 2), padding=1, use_bias=False, name=f"conv{i}")(x)
            x = nn.relu(Norm("batch", dtype=self.dtype, name=f"norm{i}")(x, train))
        return conv(self.dim, (1, 1), name="out")(x)


def resize_kernel(kernel: jax.Array, old: int, new: int) -> jax.Array:
    """Returns a kernel for patches of another size, which sees in a resized patch what the old one saw before.

    With B the matrix that resizes a patch bilinearly, this is the pseudo-inverse of B transposed times the kernel. The
    product with a patch stays the same where patches grow, and as close as possible, over all patches, where they
    shrink.

    Args:
        kernel: [old * old * C, D], row by row.
        old: side of the patches that it is for.
        new: side of the patches that it will see.

    Returns:
        [new * new * C, D].

    Source: FlexiViT (Beyer et al. 2022, arXiv:2212.08013), section 3.4.
    """
    if new == old:
        return kernel
    # The matrix of both sides is a Kronecker product, and so is its pseudo-inverse.
    inverse = jnp.asarray(np.linalg.pinv(linear_weights(old, new).T), kernel.dtype)
    wide = kernel.reshape(old, old, -1, kernel.shape[-1])
    return jnp.einsum("ri,cj,ijkd->rckd", inverse, inverse, wide).reshape(-1, kernel.shape[-1])


def linear_weights(old: int, new: int) -> np.ndarray:
    """Returns the weight [new, old] of each old pixel in each new one, without antialiasing."""
    centre = np.clip(stretched(old, new), 0, old - 1)  # beyond the border the last pixel is repeated
    return np.maximum(1 - np.abs(centre[:, None] - np.arange(old)[None]), 0)
