"""Vision transformers."""

import functools
from collections.abc import Mapping
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError, suggest
from ssl_jax.fields import positive
from ssl_jax.networks.encoding import Encoding
from ssl_jax.networks.norm import Norm
from ssl_jax.networks.patches import ConvolutionalStem, Projection
from ssl_jax.networks.positions import resample, sincos, stretched
from ssl_jax.networks.transformer import INITIALIZERS, MLPS, Block, init, own_blocks
from ssl_jax.numeric import widen

POOLS = ("token", "mean")
POSITIONS = ("learned", "sincos_rows", "sincos_columns")
STEMS = ("patch", "conv")


class ViT(nn.Module):
    """Images [B, H, W, 3] -> features [B, dim] of a vision transformer, at any size that is a multiple of the patch.

    Source: Dosovitskiy et al. 2020 (arXiv:2010.11929); initialisation as Touvron et al. 2020 (arXiv:2012.12877) or
    Chen et al. 2021 (arXiv:2104.02057).

    Attributes:
        patch: side of a patch in pixels.
        view_patch: side of the patches that images are cut into instead; the projection is resized to it, and the
            positions interpolated, without a change of their parameters (FlexiViT, arXiv:2212.08013); None: `patch`.
        stem: "patch", a linear projection of each patch, or "conv", see `patches.ConvolutionalStem`.
        size: side in pixels of the images whose grid of patches the positions belong to; other grids interpolate.
        dim: channels.
        depth: blocks.
        heads: attention heads, a divisor of `dim`.
        mlp_ratio: hidden channels of a block's MLP, as a multiple of `dim`.
        mlp: "gelu", "quick_gelu" or "swiglu", see `Block`.
        pool: "token" (the class token) or "mean" (over the patches; there is no class token).
        positions: "learned", or fixed sine-cosine with the channels of the row first, "sincos_rows" (MoCo v3), or
            those of the column first, "sincos_columns" (MAE).
        resampling: how learned ones are interpolated, "bicubic", "antialias" or "offset", see `positions.resample`.
        bias: whether queries, keys and values have a bias.
        patch_bias: whether the linear projection of patches has a bias; CLIP's (arXiv:2103.00020) has none.
        pre_norm: whether the tokens are normalised before the first block too, as in CLIP.
        eps: of the layer norms.
        mask_token: whether there is a token in place of masked patches.
        registers: extra tokens that belong to no patch (Darcet et al. 2023, arXiv:2309.16588).
        layer_scale: see `Block`.
        initializer: of the kernels, "truncated_normal" or "xavier", see `Block`.
        token_std: standard deviation with which class token and registers begin.
        drop_path: rate at which the last block is left out for an image, where a key switches that on; earlier blocks
            have rates in proportion to their depth (Huang et al. 2016, arXiv:1603.09382).
        remat: whether the backward pass computes each block again, see `run_blocks`.
        scan_blocks: whether the blocks are one loop, compiled once; None: only on a TPU, see `run_blocks`.
        dtype: of the computation; None: that of the images.

    Raises:
        UserError: if an option is unknown, or a side of the image is no multiple of the patch.
    """

    patch: Annotated[int, positive] = 16
    view_patch: Annotated[int, positive] | None = None
    stem: str = "patch"
    size: int = 224
    dim: int = 384
    depth: int = 12
    heads: int = 6
    mlp_ratio: float = 4.0
    mlp: str = "gelu"
    pool: str = "token"
    positions: str = "learned"
    resampling: str = "bicubic"
    bias: bool = True
    patch_bias: bool = True
    pre_norm: bool = False
    eps: float = 1e-6
    mask_token: bool = False
    registers: int = 0
    layer_scale: float = 0.0
    initializer: str = "truncated_normal"
    token_std: float = 0.02
    drop_path: float = 0.0
    remat: bool = False
    scan_blocks: bool | None = None
    dtype: Any = None

    @property
    def stride(self) -> int:
        """Side in pixels of the patches that images are cut into."""
        return self.view_patch or self.patch

    def __call__(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None, keep: jax.Array | None = None
    ) -> Encoding:
        """Encodes images.

        Args:
            x: [N, H, W, C].
            train: whether the BatchNorms of a convolutional stem take the statistics of the batch.
            mask: bool [N, S], the patches that the mask token replaces; needs `mask_token`.
            keep: int [N, n], the patches that are seen; the encoding's patches are these alone.
        """
        tokens, layers = self.tokens(x, mask, keep, train)
        patches = tokens[:, self.extra :]
        pooled = tokens[:, 0] if self.pool == "token" else widen(patches).mean(1)
        grid = x.shape[1] // self.stride, x.shape[2] // self.stride
        return Encoding(pooled, patches, grid, tuple(layers[1:, :, self.extra :]))

    @nn.compact
    def tokens(
        self, x: jax.Array, mask: jax.Array | None = None, keep: jax.Array | None = None, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the tokens: class token, if any, registers, patches.

        Returns:
            The normalised tokens [N, T, dim], and before the norm those before the first block and after each block,
            [depth + 1, N, T, dim].
        """
        self.check(x)
        norm = functools.partial(Norm, "layer", eps=self.eps, dtype=self.dtype)
        x = self.embed(x, mask, keep, train)
        x = norm(name="pre_norm")(x) if self.pre_norm else x
        last, layers = self.run(x)
        return norm(name="norm")(last), jnp.concatenate([x[None], layers])

    def attention(self, x: jax.Array, block: int = -1) -> jax.Array:
        """Returns the attention weights [N, heads, T, T] of a block, from 0, for images [N, H, W, C]."""
        block %= self.depth
        _, layers = self.tokens(x)
        return self.weights(layers[block], block)

    def salience(self, x: jax.Array) -> jax.Array:
        """Returns the class token's attention to each patch of images [N, H, W, C], the mean over blocks and heads.

        Returns:
            [N, S]; the class token's attention to itself and to registers is left out.
        """
        _, layers = self.tokens(x)
        each = [self.weights(layers[block], block, queries=1).mean((1, 2)) for block in range(self.depth)]
        return jnp.stack(each).mean(0)[:, self.extra :]

    def weights(self, x: jax.Array, block: int, queries: int | None = None) -> jax.Array:
        """Returns the attention weights of a block, from 0, for what enters it, [N, T, dim]; see `Block.weights`."""
        own, params = self.blocks(self.variables["params"])
        weights: Any = own.apply({"params": params[block]}, x, queries, method="weights")
        return weights

    def blocks(self, params: Mapping[str, Any]) -> tuple[Block, list[Any]]:
        """Returns a block without parameters, and from those of the encoder the parameters of each block."""
        return self.block(parent=None), [params[f"block{i + 1}"] for i in range(self.depth)]

    def attended(self, x: jax.Array, block: int = -1) -> jax.Array:
        """Returns how much of the attention each patch gets in a block, [N, heads, S], for images [N, H, W, C].

        It is the attention of the class token or, without one, the mean over the patches' own.
        """
        weights = self.attention(x, block)
        query = weights[:, :, 0] if self.pool == "token" else weights[:, :, self.extra :].mean(2)
        return query[:, :, self.extra :]

    @property
    def extra(self) -> int:
        """Tokens in front of the patches: the class token, if any, and the registers."""
        return (self.pool == "token") + self.registers

    def block(self, **options) -> Block:
        hidden = round(self.dim * self.mlp_ratio)
        options |= {"mlp": self.mlp, "initializer": self.initializer, "dtype": self.dtype}
        return Block(self.dim, self.heads, hidden, self.bias, self.eps, self.layer_scale, **options)

    def run(self, x):
        """Returns the last block's output, and the outputs of all blocks [depth, N, T, dim]."""
        rates = self.drop_path * jnp.arange(self.depth, dtype=jnp.float32) / max(self.depth - 1, 1)
        key = self.make_rng("drop_path") if self.drop_path and self.has_rng("drop_path") else None
        return own_blocks(self, self.block, rates, x, key, self.remat, self.scan_blocks)

    def check(self, x):
        tables = {"pool": POOLS, "positions": POSITIONS, "stem": STEMS, "mlp": MLPS, "initializer": INITIALIZERS}
        for field, valid in tables.items():
            value = getattr(self, field)
            if value not in valid:
                raise UserError(f"network.encoder.{field} cannot be {value!r}; {suggest(value, valid)}")
        if self.stem == "conv" and (self.patch.bit_count() != 1 or self.stride != self.patch):
            raise UserError(
                f"a convolutional stem cannot make patches of {self.stride} pixels: "
                "set network.encoder.patch to a power of 2, without a view_patch"
            )
        height, width = x.shape[1:3]
        for side, patch in ((height, self.stride), (width, self.stride), (self.size, self.patch)):
            if side % patch:
                raise UserError(f"an image side of {side} pixels is no multiple of the patch of {patch}")
        if self.dim % self.heads:
            raise UserError(f"a dim of {self.dim} cannot be shared by {self.heads} heads: set one to fit the other")

    def embed(self, x, mask, keep, train):
        """Returns the tokens [N, T, dim] before the first block: class token, registers, patches with positions."""
        x = self.patches(x, train)
        batch, rows, columns, _ = x.shape
        x = x.reshape(batch, rows * columns, self.dim)
        if self.mask_token:
            masked = self.param("mask_token", init, (self.dim,)).astype(x.dtype)
            x = x if mask is None else jnp.where(mask[:, :, None], masked[None, None], x)
        elif mask is not None:
            raise UserError("patches are masked and there is no mask token; set network.encoder.mask_token=true")
        x = x + self.grid(rows, columns).astype(x.dtype)[None]
        x = x if keep is None else jnp.take_along_axis(x, keep[:, :, None], axis=1)
        front, small = [], nn.initializers.truncated_normal(self.token_std)
        if self.pool == "token":
            # The class token's own position would only be a second summand of the same parameter.
            front.append(self.param("token", small, (self.dim,))[None])
        if self.registers:
            front.append(self.param("registers", small, (self.registers, self.dim)))
        if not front:
            return x
        tokens = jnp.concatenate(front).astype(x.dtype)[None]
        return jnp.concatenate([jnp.broadcast_to(tokens, (batch, *tokens.shape[1:])), x], axis=1)

    def patches(self, x, train):
        """Returns the patches [N, rows, columns, dim] before their positions."""
        if self.stem == "conv":
            return ConvolutionalStem(self.dim, self.patch, self.dtype, name="stem")(x, train)
        kernel_init = INITIALIZERS[self.initializer]
        return Projection(self.dim, self.stride, self.patch, kernel_init, self.patch_bias, self.dtype, name="patch")(x)

    def grid(self, rows, columns):
        """Returns the positions [rows * columns, dim]."""
        side = self.size // self.patch
        if self.positions == "learned":
            table = self.param("positions", init, (side * side, self.dim))
            return resample(table, rows, columns, self.resampling)
        coordinates = stretched(side, rows), stretched(side, columns)
        return jnp.asarray(sincos(*coordinates, self.dim, self.positions.removeprefix("sincos_")))
