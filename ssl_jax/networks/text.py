"""The text tower: a causal transformer on byte-pair tokens."""

import functools
from collections.abc import Sequence
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError
from ssl_jax.fields import not_negative, one_of, positive
from ssl_jax.networks.norm import Norm
from ssl_jax.networks.transformer import Block, own_blocks, run_blocks
from ssl_jax.numeric import widen

Blocks = tuple[Block, Sequence[Any]]  # a block without parameters, and the parameters of each


class TextTower(nn.Module):
    """Tokens int [N, L] of texts -> embeddings [N, output], made from what the last block says at the end of a text.

    A token attends only to itself and those before it, so what follows the end of a text makes no difference.

    Source: CLIP (Radford et al. 2021, arXiv:2103.00020), section 2.4, and its code; kernels start as those of our other
    transformers.

    Attributes:
        vocabulary: tokens; the last, which is the largest number, ends a text.
        dim: channels.
        depth: blocks; 0: texts go through those of the image encoder, a vision transformer of the same `dim`.
        heads: attention heads, a divisor of `dim`.
        output: channels of an embedding, those of an image's.
        mlp_ratio: hidden channels of a block's MLP, as a multiple of `dim`.
        mlp: "gelu", or "quick_gelu" for OpenAI's weights.
        eps: of the layer norms.
        remat: whether the backward pass computes each block again, see `run_blocks`.
        scan_blocks: whether the blocks are one loop, compiled once; None: only on a TPU, see `run_blocks`.
        dtype: of the computation; None: float32.
    """

    vocabulary: Annotated[int, positive] = 49_408
    dim: Annotated[int, positive] = 512
    depth: Annotated[int, not_negative] = 12
    heads: Annotated[int, positive] = 8
    output: Annotated[int, positive] = 512
    mlp_ratio: Annotated[float, positive] = 4.0
    mlp: Annotated[str, one_of(("gelu", "quick_gelu"))] = "gelu"
    eps: Annotated[float, positive] = 1e-5
    remat: bool = False
    scan_blocks: bool | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, tokens: jax.Array, blocks: Blocks | None = None) -> jax.Array:
        """Returns the embeddings, in float32 or wider.

        Args:
            tokens: int [N, L]; there are positions for the L of the first call.
            blocks: those to go through in place of its own, if `depth` is 0.

        Raises:
            UserError: if `heads` does not divide `dim`.
        """
        if self.dim % self.heads:
            raise UserError(f"a dim of {self.dim} cannot be shared by {self.heads} heads: set one to fit the other")
        length = tokens.shape[1]
        context = length if self.is_initializing() else len(self.variables["params"]["positions"])
        table = self.param("tokens", nn.initializers.normal(0.02), (self.vocabulary, self.dim))
        positions = self.param("positions", nn.initializers.normal(0.01), (context, self.dim))
        x = (table[tokens] + positions[None, :length]).astype(self.dtype or table.dtype)
        x = Norm("layer", eps=self.eps, dtype=self.dtype, name="norm")(self.run(x, blocks))
        end = jnp.argmax(tokens, axis=1)
        x = jnp.take_along_axis(x, end[:, None, None], axis=1)[:, 0]
        std = nn.initializers.normal(self.dim**-0.5)
        return widen(nn.Dense(self.output, use_bias=False, kernel_init=std, dtype=self.dtype, name="projection")(x))

    def run(self, x, others):
        """Returns what the blocks make of tokens [N, L, dim]."""
        if self.depth:
            options = {"eps": self.eps, "mlp": self.mlp, "causal": True, "dtype": self.dtype}
            block = functools.partial(Block, self.dim, self.heads, round(self.dim * self.mlp_ratio), **options)
            return own_blocks(self, block, jnp.zeros(self.depth), x, None, self.remat, self.scan_blocks)[0]
        if self.is_initializing():
            return x
        shared, params = others
        rates = jnp.zeros(len(params))
        return run_blocks(shared.clone(causal=True), params, x, rates, None, self.remat, self.scan_blocks)[0]
