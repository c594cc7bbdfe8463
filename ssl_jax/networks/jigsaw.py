"""A head for the patches of an image in random order."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.networks.heads import MLP


class Jigsaw(nn.Module):
    """Features [B, P, D] of patches, int [B, P] an order of them -> one projection [B, output] of the image.

    An MLP makes `output` channels of each patch; they are put into the order, concatenated, and mapped linearly.
    Source: PIRL (Misra and van der Maaten 2019, arXiv:1912.01991, section 3.2), with the layers of PyContrast.

    Attributes:
        output: channels that come out.
    """

    output: int

    @nn.compact
    def __call__(self, patches: jax.Array, order: jax.Array) -> jax.Array:
        batch, _, hidden = patches.shape
        head = MLP(self.output, hidden, norm="none", hidden_bias=True, output_bias=True, name="patch")
        shuffled = jnp.take_along_axis(head(patches), order[:, :, None], axis=1)
        return nn.Dense(self.output, name="whole")(shuffled.reshape(batch, -1))
