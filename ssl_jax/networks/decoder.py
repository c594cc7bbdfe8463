"""A narrow transformer that predicts the patches of an image which an encoder has not seen."""

import functools
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.fields import Rule, one_of, positive
from ssl_jax.networks.norm import Norm
from ssl_jax.networks.positions import sincos
from ssl_jax.networks.transformer import INITIALIZERS, Block, init, own_blocks
from ssl_jax.numeric import widen

fourfold = Rule(lambda value: value > 0 and value % 4 == 0, "a multiple of 4")  # as the positions need it


class Decoder(nn.Module):
    """Encoded patches of images -> predictions for these patches and for others.

    A trained token stands for each patch to predict. All tokens get the fixed sine-cosine positions of their patches.

    Sources: the decoder of MAE (He et al. 2021, arXiv:2111.06377, section 3) and the predictor of I-JEPA (Assran et al.
    2023, arXiv:2301.08243, section 3).

    Attributes:
        dim: channels, a multiple of 4.
        depth: blocks.
        heads: attention heads, a divisor of `dim`.
        mlp_ratio: hidden channels of a block's MLP, as a multiple of `dim`.
        eps: of the layer norms.
        initializer: of the kernels, see `Block`.
        dtype: of the computation; None: that of the patches.
    """

    dim: Annotated[int, fourfold] = 512
    depth: Annotated[int, positive] = 8
    heads: Annotated[int, positive] = 16
    mlp_ratio: Annotated[float, positive] = 4.0
    eps: Annotated[float, positive] = 1e-6
    initializer: Annotated[str, one_of(INITIALIZERS)] = "xavier"
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        patches: jax.Array,
        places: jax.Array,
        grid: tuple[int, int],
        output: int | None,
        token: jax.Array | None = None,
    ) -> jax.Array:
        """Returns a prediction for each place, [N, P, output] in float32 or wider.

        Args:
            patches: [N, n, C], what the encoder makes of the patches that it sees.
            places: int [N, P], where in the grid patches lie, counted row by row: first those that the encoder sees.
            grid: (rows, columns) of the image's patches.
            output: channels of a prediction; None: predictions are what leaves the last norm.
            token: [N, C], a token of the whole image, such as the class token.

        Raises:
            UserError: if `heads` does not divide `dim`.
        """
        if self.dim % self.heads:
            raise UserError(f"a dim of {self.dim} cannot be shared by {self.heads} heads: set one to fit the other")
        dense = functools.partial(nn.Dense, kernel_init=INITIALIZERS[self.initializer], dtype=self.dtype)
        embed = dense(self.dim, name="embed")
        seen = embed(patches)
        absent = self.param("mask_token", init, (self.dim,)).astype(seen.dtype)[None, None]
        images, count = places.shape
        x = jnp.concatenate([seen, jnp.broadcast_to(absent, (images, count - seen.shape[1], self.dim))], axis=1)
        positions = sincos(np.arange(grid[0]), np.arange(grid[1]), self.dim, "columns")
        x = x + jnp.asarray(positions, x.dtype)[places]
        if token is not None:
            x = jnp.concatenate([embed(token)[:, None], x], axis=1)
        x = Norm("layer", eps=self.eps, dtype=self.dtype, name="norm")(self.run(x))
        x = x[:, -count:]
        return widen(x if output is None else dense(output, name="output")(x))

    def run(self, x):
        """Returns what the blocks make of tokens [N, T, dim]."""
        hidden = round(self.dim * self.mlp_ratio)
        options = {"eps": self.eps, "initializer": self.initializer, "dtype": self.dtype}
        block = functools.partial(Block, self.dim, self.heads, hidden, **options)
        return own_blocks(self, block, jnp.zeros(self.depth), x)[0]
