"""Selective kernels: a convolution that chooses between two receptive fields, image by image."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp


class SelectiveKernel(nn.Module):
    """Two 3x3 convolutions of x [B, H, W, C], mixed per channel by weights read from their pooled sum.

    Source: Li et al. 2019 (arXiv:1903.06586), as used by Chen et al. 2020 (arXiv:2006.10029, appendix A).

    Attributes:
        width: output channels.
        stride: of the convolutions.
        ratio: channels of the layer that reads the pooled sum, as a share of `width` (at least 32 channels).
        conv: makes a bias-free convolution from (width, kernel, strides).
        norm: makes a normalisation.
    """

    width: int
    stride: int
    ratio: float
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = self.conv(2 * self.width, (3, 3), (self.stride, self.stride), padding=1, name="conv")(x)
        x = nn.relu(self.norm(name="norm")(x, train))
        branches = x.reshape(*x.shape[:-1], 2, self.width)
        pooled = branches.sum(-2).mean((1, 2), keepdims=True)
        squeezed = self.conv(max(int(self.width * self.ratio), 32), (1, 1), name="squeeze")(pooled)
        squeezed = nn.relu(self.norm(name="squeeze_norm")(squeezed, train))
        logits = self.conv(2 * self.width, (1, 1), name="mix")(squeezed)
        weights = jax.nn.softmax(logits.reshape(*logits.shape[:-1], 2, self.width), axis=-2)
        return jnp.sum(branches * weights, axis=-2)
