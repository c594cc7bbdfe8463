"""Squeeze-and-excitation: every channel is scaled by a factor computed from the whole image."""

from collections.abc import Callable

import flax.linen as nn
import jax

from ssl_jax.numeric import widen


class SqueezeExcitation(nn.Module):
    """Scales each channel of x [B, H, W, C] by a factor between 0 and 1 that depends on the mean over positions.

    Source: Hu et al. 2017 (arXiv:1709.01507), equations 2 to 4, with biases as in SimCLR v2's code (Chen et al. 2020,
    arXiv:2006.10029, section 3.1 and table 1).

    Attributes:
        width: channels of the layer between the mean and the factors.
        conv: makes a convolution from (width, kernel).
    """

    width: int
    conv: Callable

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        mean = widen(x).mean((1, 2), keepdims=True).astype(x.dtype)
        squeezed = nn.relu(self.conv(self.width, (1, 1), use_bias=True, name="squeeze")(mean))
        return x * nn.sigmoid(self.conv(x.shape[-1], (1, 1), use_bias=True, name="excite")(squeezed))
