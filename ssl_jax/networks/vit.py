"""Vision transformers."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError, nearest
from ssl_jax.networks.encoding import Encoding
from ssl_jax.networks.norm import Norm
from ssl_jax.networks.positions import resample, sincos, stretched
from ssl_jax.numeric import widen

POOLS = ("token", "mean")
POSITIONS = ("learned", "sincos_rows", "sincos_columns")
init = nn.initializers.truncated_normal(0.02)


class Attention(nn.Module):
    """Multi-head self-attention on x [B, N, D] (Vaswani et al. 2017, arXiv:1706.03762, section 3.2).

    The weights [B, heads, N, N] are sown as the intermediate `attention`.
    """

    heads: int
    bias: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        dense = functools.partial(nn.Dense, kernel_init=init, dtype=self.dtype)
        qkv = dense(3 * x.shape[-1], use_bias=self.bias, name="qkv")(x)
        q, k, v = jnp.moveaxis(qkv.reshape(*x.shape[:2], 3, self.heads, -1), 2, 0)
        logits = jnp.einsum("bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k)
        weights = jax.nn.softmax(widen(logits))
        self.sow("intermediates", "attention", weights)
        y = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(v.dtype), v)
        return dense(x.shape[-1], name="out")(y.reshape(x.shape))


class Block(nn.Module):
    """A transformer block on x [B, N, D]: attention, then a two-layer MLP; each normalises first and has a shortcut."""

    heads: int
    hidden: int
    bias: bool
    eps: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        norm = functools.partial(Norm, "layer", eps=self.eps, dtype=self.dtype)
        dense = functools.partial(nn.Dense, kernel_init=init, dtype=self.dtype)
        x = x + Attention(self.heads, self.bias, self.dtype, name="attention")(norm(name="norm1")(x))
        y = dense(self.hidden, name="linear1")(norm(name="norm2")(x))
        return x + dense(x.shape[-1], name="linear2")(nn.gelu(y, approximate=False))


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
    dtype: Any = None

    @property
    def stride(self) -> int:
        """Side of a patch in pixels."""
        return self.patch

    def __call__(self, x: jax.Array, train: bool = False, mask=None, keep=None) -> Encoding:
        grid = x.shape[1] // self.patch, x.shape[2] // self.patch
        tokens = self.tokens(x, train)
        if self.pool == "token":
            return Encoding(tokens[:, 0], tokens[:, 1:], grid)
        return Encoding(widen(tokens).mean(1), tokens, grid)

    @nn.compact
    def tokens(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Returns the normalised tokens [B, N, dim] after the last block: class token, if any, and patches."""
        self.check(x)
        x = self.embed(x)
        for i in range(self.depth):
            hidden = round(self.dim * self.mlp_ratio)
            x = Block(self.heads, hidden, self.bias, self.eps, self.dtype, name=f"block{i + 1}")(x)
        return Norm("layer", eps=self.eps, dtype=self.dtype, name="norm")(x)

    def check(self, x):
        height, width = x.shape[1:3]
        for side in (height, width, self.size):
            if side % self.patch:
                raise UserError(f"an image side of {side} pixels is no multiple of the patch of {self.patch}")
        if self.dim % self.heads:
            raise UserError(f"a dim of {self.dim} cannot be shared by {self.heads} heads: set one to fit the other")
        for value, valid in ((self.pool, POOLS), (self.positions, POSITIONS)):
            if value not in valid:
                raise UserError(f"the network cannot have {value!r}; {nearest(value, valid)}")

    def embed(self, x):
        """Returns the patches [B, N, dim] with their positions, behind the class token if there is one."""
        batch, p = x.shape[0], self.patch
        rows, columns = x.shape[1] // p, x.shape[2] // p
        x = x.reshape(batch, rows, p, columns, p, -1).swapaxes(2, 3).reshape(batch, rows * columns, -1)
        x = nn.Dense(self.dim, kernel_init=init, dtype=self.dtype, name="patch")(x)
        x = x + self.grid(rows, columns).astype(x.dtype)[None]
        if self.pool == "mean":
            return x
        # The class token's own position would only be a second summand of the same parameter.
        token = self.param("token", init, (self.dim,)).astype(x.dtype)
        return jnp.concatenate([jnp.broadcast_to(token[None, None], (batch, 1, self.dim)), x], axis=1)

    def grid(self, rows, columns):
        """Returns the positions [rows * columns, dim]."""
        side = self.size // self.patch
        if self.positions == "learned":
            table = self.param("positions", init, (side * side, self.dim))
            return resample(table, rows, columns, self.resampling)
        coordinates = stretched(side, rows), stretched(side, columns)
        return jnp.asarray(sincos(*coordinates, self.dim, self.positions.removeprefix("sincos_")))
