"""The transformer's block, and a stack of them compiled once."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from ssl_jax.networks.attention import attend, padded, row_major, weights
from ssl_jax.networks.norm import Norm
from ssl_jax.parallel import platform

init = nn.initializers.truncated_normal(0.02)
INITIALIZERS = {"truncated_normal": init, "xavier": nn.initializers.xavier_uniform()}
# The three matrices of an attention's queries, keys and values are stored as one, and each is initialised by itself.
QKV_INITIALIZERS = INITIALIZERS | {"xavier": nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")}


def swiglu(x: jax.Array) -> jax.Array:
    """Returns [..., D] of x [..., 2 D]: SiLU of the first half times the second (Shazeer 2020, arXiv:2002.05202)."""
    gate, value = jnp.split(x, 2, axis=-1)
    return nn.silu(gate) * value


def quick_gelu(x: jax.Array) -> jax.Array:
    """Returns x sigmoid(1.702 x), an approximation of GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415)."""
    return x * nn.sigmoid(1.702 * x)


MLPS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": functools.partial(nn.gelu, approximate=False),
    "quick_gelu": quick_gelu,
    "swiglu": swiglu,
}

# The forward pass stores what linear maps read and return. What lies between, norms and activation functions, the
# backward pass computes again, inside the kernels that compute their gradient.
stored = functools.partial(checkpoint_name, name="stored")
STORED = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable, jax.checkpoint_policies.save_only_these_names("stored")
)


class Block(nn.Module):
    """A transformer block on x [N, T, D]: attention, then a two-layer MLP; each normalises first and has a shortcut.

    With a key "drop_path", each of the two is left out for an image with probability `rate` (stochastic depth, Huang
    et al. 2016, arXiv:1603.09382) and scaled by 1 / (1 - rate) otherwise.

    Source: Vaswani et al. 2017 (arXiv:1706.03762), section 3.2.2, and Dosovitskiy et al. 2020 (arXiv:2010.11929),
    equations 2 and 3.

    Attributes:
        dim: channels D.
        heads: attention heads, a divisor of `dim`.
        hidden: channels of the MLP's hidden layer; see `mlp`.
        bias: whether queries, keys and values have a bias.
        eps: of the layer norms.
        layer_scale: initial value of a trained factor on each channel of both parts (Touvron et al. 2021,
            arXiv:2103.17239, section 2); 0: no factors.
        mlp: "gelu"; "quick_gelu", which OpenAI's weights of CLIP have; or "swiglu", with a gate for each hidden channel
            and two thirds of the channels, so that the parameters stay as many; their number is rounded up to a
            multiple of 8 (Oquab et al. 2023, arXiv:2304.07193, in the code).
        initializer: of the kernels, "truncated_normal" with deviation 0.02, or "xavier", uniform (Glorot and Bengio
            2010), where queries, keys and values are three matrices.
        causal: whether a token attends only to itself and those before it.
        dtype: of the computation; None: that of x.
    """

    dim: int
    heads: int
    hidden: int
    bias: bool = True
    eps: float = 1e-6
    layer_scale: float = 0.0
    mlp: str = "gelu"
    initializer: str = "truncated_normal"
    causal: bool = False
    dtype: Any = None

    def setup(self):
        norm = functools.partial(Norm, "layer", eps=self.eps, dtype=self.dtype)
        self.norm1, self.norm2 = norm(), norm()
        self.attention = Attention(self.dim, self.heads, self.bias, self.initializer, self.dtype)
        dense = functools.partial(nn.Dense, kernel_init=INITIALIZERS[self.initializer], dtype=self.dtype)
        width = 2 * gated_width(self.hidden) if self.mlp == "swiglu" else self.hidden
        self.linear1, self.linear2 = dense(width), dense(self.dim)
        if self.layer_scale:
            factor = nn.initializers.constant(self.layer_scale)
            self.scale1, self.scale2 = (self.param(name, factor, (self.dim,)) for name in ("scale1", "scale2"))

    def __call__(self, x: jax.Array, rate: jax.Array | float = 0.0) -> jax.Array:
        return self.after(x, attend(self.before(x), x.shape[1], self.causal), rate)

    def before(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns queries, keys and values [N, T, heads, D / heads]."""
        return self.attention.project(stored(self.norm1(x)))

    def after(self, x: jax.Array, attended: jax.Array, rate: jax.Array | float) -> jax.Array:
        """Returns the block's output for its input and what its attention gives, [N, T, heads, D / heads]."""
        y = self.attention.out(attended.reshape(x.shape))
        x = x + self.drop(self.scaled(y, "scale1"), rate)
        y = self.linear2(stored(MLPS[self.mlp](self.linear1(stored(self.norm2(x))))))
        return x + self.drop(self.scaled(y, "scale2"), rate)

    def weights(self, x: jax.Array, queries: int | None = None) -> jax.Array:
        """Returns the weights [N, heads, Q, T] of the attention of the first Q = `queries` tokens; None: of all."""
        query, key, _ = self.before(x)
        return weights(query[:, :queries], key, self.causal)

    def scaled(self, y, name):
        return y * getattr(self, name).astype(y.dtype)[None, None] if self.layer_scale else y

    def drop(self, y, rate):
        if not self.has_rng("drop_path"):
            return y
        kept = jax.random.bernoulli(self.make_rng("drop_path"), 1 - rate, (y.shape[0], 1, 1))
        return jnp.where(kept, y / jnp.asarray(1 - rate, y.dtype), jnp.zeros((), y.dtype))


def gated_width(hidden: int) -> int:
    """Returns two thirds of the hidden channels, rounded up to a multiple of 8."""
    return 8 * math.ceil(2 * hidden // 3 / 8)


class Attention(nn.Module):
    """The linear maps of multi-head self-attention on x [N, T, D]."""

    dim: int
    heads: int
    bias: bool
    initializer: str
    dtype: Any

    def setup(self):
        dense = functools.partial(nn.Dense, dtype=self.dtype)
        self.qkv = dense(3 * self.dim, use_bias=self.bias, kernel_init=QKV_INITIALIZERS[self.initializer])
        self.out = dense(self.dim, kernel_init=INITIALIZERS[self.initializer])

    def project(self, x):
        """Returns queries, keys and values, each [N, T, heads, D / heads]."""
        return tuple(part.reshape(*x.shape[:2], self.heads, -1) for part in jnp.split(self.qkv(x), 3, axis=-1))


def own_blocks(
    module: nn.Module, make: Callable[..., Block], rates: jax.Array, x: jax.Array, *options
) -> tuple[jax.Array, jax.Array]:
    """Runs x [N, T, D] through the blocks "block1", "block2", ... of a module, which the first call makes.

    Args:
        module: whose parameters the blocks are, in its compact method.
        make: returns a block, given its name or parent.
        rates: [depth], the drop-path rate of each block.
        x: tokens.
        *options: the last arguments of `run_blocks`.

    Returns:
        As `run_blocks`.
    """
    names = [f"block{i + 1}" for i in range(len(rates))]
    if not module.is_initializing():
        params = [module.variables["params"][name] for name in names]
        return run_blocks(make(parent=None), params, x, rates, *options)
    layers = []
    for name in names:
        x = make(name=name)(x)
        layers.append(x)
    return x, jnp.stack(layers)


def run_blocks(
    block: Block,
    params: Sequence[Any],
    x: jax.Array,
    rates: jax.Array,
    key: jax.Array | None = None,
    remat: bool = False,
    scan: bool | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Runs x [N, T, D] through blocks of one shape, stacked.

    Args:
        block: an unbound block, whose fields all blocks share.
        params: the parameters of each block.
        x: tokens.
        rates: the drop-path rate of each block.
        key: switches drop-path on; None: it is off.
        remat: whether the backward pass computes all of a block again, so that only the blocks' inputs are stored.
        scan: whether the blocks are one loop in the program, compiled once for all of them, in place of one after the
            other; None: only on a TPU.

    Returns:
        The last block's output, and the outputs of all blocks [depth, N, T, D].
    """
    # A loop copies what the backward pass needs, which takes 29 % of a step on a GPU and 14 % on a CPU.
    scan = platform() == "tpu" if scan is None else scan
    unroll = 1 if scan else len(params)
    tokens = x.shape[1]
    checkpoint = functools.partial(jax.checkpoint, prevent_cse=unroll > 1)
    partly = functools.partial(checkpoint, policy=STORED)

    def body(x, inputs):
        params, rate, key = inputs
        rngs = None if key is None else {"drop_path": key}
        before = partly(lambda params, x: block.apply(params, x, method="before"))
        after = partly(lambda params, *args: block.apply(params, *args, rngs=rngs, method="after"))
        x = row_major(after(params, x, attend(before(params, x), tokens, block.causal), rate))
        return x, x

    def stack(*leaves):
        # Kernels are cast first, so that the stacked copy is in the dtype in which they are multiplied.
        return jnp.stack([leaf.astype(block.dtype) if block.dtype and leaf.ndim > 1 else leaf for leaf in leaves])

    keys = None if key is None else jax.random.split(key, len(params))
    inputs = {"params": jax.tree.map(stack, *params)}, rates, keys
    x, layers = jax.lax.scan(checkpoint(body) if remat else body, row_major(padded(x)), inputs, unroll=unroll)
    return x[:, :tokens], layers[:, :, :tokens]
