"""Vision transformers."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError, suggest
from ssl_jax.networks.encoding import Encoding
from ssl_jax.networks.norm import Norm
from ssl_jax.networks.positions import resample, sincos, stretched
from ssl_jax.networks.transformer import Block, init, run_blocks
from ssl_jax.numeric import widen

POOLS = ("token", "mean")
POSITIONS = ("learned", "sincos_rows", "sincos_columns")


class ViT(nn.Module):
    """Images [B, H, W, 3] -> features [B, dim] of a vision transformer, at any size that is a multiple of the patch.

    Source: Dosovitskiy et al. 2020 (arXiv:2010.11929); initialisation as Touvron et al. 2020 (arXiv:2012.12877).

    Attributes:
        patch: side of a patch in pixels.
        size: side in pixels of the images whose grid of patches the positions belong to; other grids interpolate.
        dim: channels.
        depth: blocks.
        heads: attention heads, a divisor of `dim`.
        mlp_ratio: hidden channels of a block's MLP, as a multiple of `dim`.
        pool: "token" (the class token) or "mean" (over the patches; there is no class token).
        positions: "learned", or fixed sine-cosine with the channels of the row first, "sincos_rows" (MoCo v3), or
            those of the column first, "sincos_columns" (MAE).
        resampling: how learned ones are interpolated, "bicubic", "antialias" or "offset", see `positions.resample`.
        bias: whether queries, keys and values have a bias.
        eps: of the layer norms.
        mask_token: whether there is a token in place of masked patches.
        registers: extra tokens that belong to no patch (Darcet et al. 2023, arXiv:2309.16588).
        layer_scale: see `Block`.
        drop_path: rate at which the last block is left out for an image, where a key switches that on; earlier blocks
            have rates in proportion to their depth (Huang et al. 2016, arXiv:1603.09382).
        remat: whether the backward pass computes each block again, see `run_blocks`.
        scan_blocks: whether the blocks are one loop, compiled once; None: only on a TPU, see `run_blocks`.
        dtype: of the computation; None: that of the images.

    Raises:
        UserError: if an option is unknown, or a side of the image is no multiple of the patch.
    """

    patch: int = 16
    size: int = 224
    dim: int = 384
    depth: int = 12
    heads: int = 6
    mlp_ratio: float = 4.0
    pool: str = "token"
    positions: str = "learned"
    resampling: str = "bicubic"
    bias: bool = True
    eps: float = 1e-6
    mask_token: bool = False
    registers: int = 0
    layer_scale: float = 0.0
    drop_path: float = 0.0
    remat: bool = False
    scan_blocks: bool | None = None
    dtype: Any = None

    @property
    def stride(self) -> int:
        """Side of a patch in pixels."""
        return self.patch

    def __call__(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None, keep: jax.Array | None = None
    ) -> Encoding:
        """Encodes images.

        Args:
            x: [N, H, W, C].
            train: has no effect.
            mask: bool [N, S], the patches that the mask token replaces; needs `mask_token`.
            keep: int [N, n], the patches that are seen; the encoding's patches are these alone.
        """
        tokens, layers = self.tokens(x, mask, keep)
        patches = tokens[:, self.extra :]
        pooled = tokens[:, 0] if self.pool == "token" else widen(patches).mean(1)
        grid = x.shape[1] // self.patch, x.shape[2] // self.patch
        return Encoding(pooled, patches, grid, tuple(layers[1:, :, self.extra :]))

    @nn.compact
    def tokens(
        self, x: jax.Array, mask: jax.Array | None = None, keep: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the tokens: class token, if any, registers, patches.

        Returns:
            The normalised tokens [N, T, dim], and before the norm those before the first block and after each block,
            [depth + 1, N, T, dim].
        """
        self.check(x)
        x = self.embed(x, mask, keep)
        last, layers = self.run(x)
        return Norm("layer", eps=self.eps, dtype=self.dtype, name="norm")(last), jnp.concatenate([x[None], layers])

    def attention(self, x: jax.Array, block: int = -1) -> jax.Array:
        """Returns the attention weights [N, heads, T, T] of a block, from 0, for images [N, H, W, C]."""
        block %= self.depth
        _, layers = self.tokens(x)
        params = {"params": self.variables["params"][f"block{block + 1}"]}
        weights: Any = self.block(parent=None).apply(params, layers[block], method="weights")
        return weights

    @property
    def extra(self) -> int:
        """Tokens in front of the patches: the class token, if any, and the registers."""
        return (self.pool == "token") + self.registers

    def block(self, **options) -> Block:
        hidden = round(self.dim * self.mlp_ratio)
        return Block(self.dim, self.heads, hidden, self.bias, self.eps, self.layer_scale, self.dtype, **options)

    def run(self, x):
        """Returns the last block's output, and the outputs of all blocks [depth, N, T, dim]."""
        if self.is_initializing():
            layers = []
            for i in range(self.depth):
                x = self.block(name=f"block{i + 1}")(x)
                layers.append(x)
            return x, jnp.stack(layers)
        params = [self.variables["params"][f"block{i + 1}"] for i in range(self.depth)]
        rates = self.drop_path * jnp.arange(self.depth, dtype=jnp.float32) / max(self.depth - 1, 1)
        key = self.make_rng("drop_path") if self.drop_path and self.has_rng("drop_path") else None
        return run_blocks(self.block(parent=None), params, x, rates, key, self.remat, self.scan_blocks)

    def check(self, x):
        height, width = x.shape[1:3]
        for side in (height, width, self.size):
            if side % self.patch:
                raise UserError(f"an image side of {side} pixels is no multiple of the patch of {self.patch}")
        if self.dim % self.heads:
            raise UserError(f"a dim of {self.dim} cannot be shared by {self.heads} heads: set one to fit the other")
        for value, valid in ((self.pool, POOLS), (self.positions, POSITIONS)):
            if value not in valid:
                raise UserError(f"the network cannot have {value!r}; {suggest(value, valid)}")

    def embed(self, x, mask, keep):
        """Returns the tokens [N, T, dim] before the first block: class token, registers, patches with positions."""
        batch, p = x.shape[0], self.patch
        rows, columns = x.shape[1] // p, x.shape[2] // p
        x = x.reshape(batch, rows, p, columns, p, -1).swapaxes(2, 3).reshape(batch, rows * columns, -1)
        x = nn.Dense(self.dim, kernel_init=init, dtype=self.dtype, name="patch")(x)
        if self.mask_token:
            masked = self.param("mask_token", init, (self.dim,)).astype(x.dtype)
            x = x if mask is None else jnp.where(mask[:, :, None], masked[None, None], x)
        elif mask is not None:
            raise UserError("patches are masked and there is no mask token; set network.encoder.mask_token=true")
        x = x + self.grid(rows, columns).astype(x.dtype)[None]
        x = x if keep is None else jnp.take_along_axis(x, keep[:, :, None], axis=1)
        front = []
        if self.pool == "token":
            # The class token's own position would only be a second summand of the same parameter.
            front.append(self.param("token", init, (self.dim,))[None])
        if self.registers:
            front.append(self.param("registers", init, (self.registers, self.dim)))
        if not front:
            return x
        tokens = jnp.concatenate(front).astype(x.dtype)[None]
        return jnp.concatenate([jnp.broadcast_to(tokens, (batch, *tokens.shape[1:])), x], axis=1)

    def grid(self, rows, columns):
        """Returns the positions [rows * columns, dim]."""
        side = self.size // self.patch
        if self.positions == "learned":
            table = self.param("positions", init, (side * side, self.dim))
            return resample(table, rows, columns, self.resampling)
        coordinates = stretched(side, rows), stretched(side, columns)
        return jnp.asarray(sincos(*coordinates, self.dim, self.positions.removeprefix("sincos_")))
