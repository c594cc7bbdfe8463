"""Vision transformers in timm and Hugging Face: names of arrays, and what each library can express."""

import itertools
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.interop.rows import Arrays, Row, alike, constant, dense, layer_norm, thirds
from ssl_jax.networks import ViT
from ssl_jax.networks.patches import resize_kernel
from ssl_jax.networks.positions import resample, sincos, stretched
from ssl_jax.networks.transformer import gated_width


class Names(NamedTuple):
    """Names of modules and arrays in a library."""

    patch: str
    token: str
    positions: str
    registers: str
    norm: str
    block: str
    norm1: str
    norm2: str
    qkv: tuple[str, ...]  # of one map, or of three
    out: str
    linear1: str
    linear2: str
    scale1: str = ""
    scale2: str = ""
    gated1: str = ""  # what `linear1` is called with SwiGLU; empty: the same
    gated2: str = ""
    pre_norm: str = ""
    class_position: bool = True  # whether the class token has a position of its own
    mask_token: str = ""  # an array that is always there


# DINO, DINOv2, MAE and MoCo v3 use them too, and timm where `no_embed_class` is not set.
TIMM = Names(
    patch="patch_embed.proj",
    token="cls_token",
    positions="pos_embed",
    registers="reg_token",
    norm="norm",
    block="blocks.{}",
    norm1="norm1",
    norm2="norm2",
    qkv=("attn.qkv",),
    out="attn.proj",
    linear1="mlp.fc1",
    linear2="mlp.fc2",
    scale1="ls1.gamma",
    scale2="ls2.gamma",
    pre_norm="norm_pre",
)
TIMM_PATCHES = TIMM._replace(class_position=False)
# Hugging Face's files keep these names; since version 5 its modules have others.
ATTENTION = tuple(f"attention.attention.{name}" for name in ("query", "key", "value"))
VIT = Names(
    patch="embeddings.patch_embeddings.projection",
    token="embeddings.cls_token",
    positions="embeddings.position_embeddings",
    registers="",
    norm="layernorm",
    block="encoder.layer.{}",
    norm1="layernorm_before",
    norm2="layernorm_after",
    qkv=ATTENTION,
    out="attention.output.dense",
    linear1="intermediate.dense",
    linear2="output.dense",
)
DINOV2 = VIT._replace(
    registers="embeddings.register_tokens",
    norm1="norm1",
    norm2="norm2",
    linear1="mlp.fc1",
    linear2="mlp.fc2",
    scale1="layer_scale1.lambda1",
    scale2="layer_scale2.lambda1",
    gated1="mlp.weights_in",
    gated2="mlp.weights_out",
    mask_token="embeddings.mask_token",
)


def table(encoder: ViT, names: Names) -> list[Row]:
    """Returns the rows for all arrays of an encoder with learned positions."""
    rows = patches(encoder, names.patch) + tokens(encoder, names) + layer_norm("norm", names.norm)
    rows += layer_norm("pre_norm", names.pre_norm) if encoder.pre_norm else []
    gated = encoder.mlp == "swiglu"
    linear1, linear2 = linears(names, gated)
    for i in range(encoder.depth):
        ours, theirs = f"block{i + 1}", names.block.format(i)
        qkv = tuple(f"{theirs}.{name}" for name in names.qkv)
        rows += layer_norm(f"{ours}/norm1", f"{theirs}.{names.norm1}")
        rows += layer_norm(f"{ours}/norm2", f"{theirs}.{names.norm2}")
        own = f"{ours}/attention/qkv"
        rows += thirds(own, qkv, encoder.bias) if len(qkv) == 3 else dense(own, qkv[0], encoder.bias)
        rows += dense(f"{ours}/attention/out", f"{theirs}.{names.out}")
        rows += dense(f"{ours}/linear1", f"{theirs}.{linear1}") + dense(f"{ours}/linear2", f"{theirs}.{linear2}")
        for name in ("scale1", "scale2"):
            other = f"{theirs}.{getattr(names, name)}"
            if encoder.layer_scale:
                rows.append(alike(f"params/{ours}/{name}", other))
            elif names is DINOV2 or (gated and names.scale1):  # these always have factors
                rows.append(constant(other, np.ones(encoder.dim, np.float32)))
    return rows + ([constant(names.mask_token, np.zeros((1, encoder.dim), np.float32))] if names.mask_token else [])


def linears(names: Names, gated: bool) -> tuple[str, str]:
    """Returns the names of the two maps of an MLP."""
    return (gated and names.gated1) or names.linear1, (gated and names.gated2) or names.linear2


def patches(encoder: ViT, name: str) -> list[Row]:
    """The projection of patches: a kernel [P * P * C, D] of ours is a convolution's weight [D, C, P, P]."""
    side, dim = encoder.patch, encoder.dim

    def out(kernel):
        return kernel.reshape(side, side, -1, dim).transpose(3, 2, 0, 1)

    def back(weight):
        return weight.transpose(2, 3, 1, 0).reshape(-1, dim)

    rows = [alike("params/patch/kernel", f"{name}.weight", out, back)]
    if encoder.patch_bias:
        return [*rows, alike("params/patch/bias", f"{name}.bias")]
    return rows if encoder.pre_norm else [*rows, constant(f"{name}.bias", np.zeros(dim, np.float32))]


def tokens(encoder: ViT, names: Names) -> list[Row]:
    """The class token, the registers and the positions; the class token's own position is a summand of it."""

    def lead(x):
        return x[None]

    rows = []
    if encoder.registers:
        rows.append(alike("params/registers", names.registers, lead, lambda x: x[0]))
    if encoder.pool == "token" and names.class_position:
        rows.append(
            Row(
                ("params/token", "params/positions"),
                (names.token, names.positions),
                lambda token, table: (token[None, None], np.concatenate([0 * token[None], table])[None]),
                lambda token, table: (token[0, 0] + table[0, 0], table[0, 1:]),
            )
        )
        return rows
    if encoder.pool == "token":
        rows.append(alike("params/token", names.token, lambda x: x[None, None], lambda x: x[0, 0]))
    return [*rows, alike("params/positions", names.positions, lead, lambda x: x[0])]


def at_size(encoder: ViT, arrays: Arrays, size: int) -> tuple[ViT, dict[str, np.ndarray]]:
    """Returns an encoder with learned positions, and its arrays, that computes the same at one image size.

    Args:
        encoder: an encoder.
        arrays: its arrays.
        size: side of the images in pixels.
    """
    side, stride = size // encoder.stride, encoder.stride
    positions: Any
    if encoder.positions == "learned":
        positions = resample(jnp.asarray(arrays["params/positions"]), side, side, encoder.resampling)
    else:
        coordinates = stretched(encoder.size // encoder.patch, side)
        positions = sincos(coordinates, coordinates, encoder.dim, encoder.positions.removeprefix("sincos_"))
    kernel = resize_kernel(jnp.asarray(arrays["params/patch/kernel"]), encoder.patch, stride)
    changed = {"params/positions": np.asarray(positions, np.float32), "params/patch/kernel": np.asarray(kernel)}
    changes: dict[str, Any] = {
        "positions": "learned",
        "size": side * stride,
        "patch": stride,
        "view_patch": None,
        "mask_token": False,
    }
    return encoder.clone(**changes), {**arrays, **changed}


def from_arrays(arrays: Arrays, names: Names, heads: int | None) -> ViT:
    """Returns the encoder that arrays under their names belong to.

    Args:
        arrays: the arrays.
        names: their names.
        heads: attention heads; None: as networks of this width have.

    Raises:
        UserError: if the arrays do not tell.
    """
    dim, _, patch, _ = arrays[f"{names.patch}.weight"].shape
    if heads is None and dim not in HEADS:
        raise UserError(f"how many attention heads share {dim} channels, the weights do not tell; give it as heads=N")

    def there(name):
        return bool(name) and name in arrays

    first = names.block.format(0)
    depth = next(i for i in itertools.count() if not there(f"{names.block.format(i)}.{names.norm1}.weight"))
    one, two = linears(names, gated=there(f"{first}.{names.gated1}.weight"))
    width, hidden = len(arrays[f"{first}.{one}.weight"]), arrays[f"{first}.{two}.weight"].shape[1]
    gated = width == 2 * hidden
    # Two thirds of what the ratio says are there with SwiGLU, rounded up to a multiple of 8.
    ratio = (3 * hidden // 2 if gated else hidden) / dim
    if gated and gated_width(round(dim * ratio)) != hidden:
        raise UserError(f"the weights have {hidden} gated channels, and here they are a multiple of 8")
    token = there(names.token)
    count = arrays[names.positions].shape[1] - (token and names.class_position)
    return ViT(
        patch=patch,
        size=math.isqrt(count) * patch,
        dim=dim,
        depth=depth,
        heads=heads or HEADS[dim],
        mlp_ratio=ratio,
        mlp="swiglu" if gated else "gelu",
        pool="token" if token else "mean",
        bias=there(f"{first}.{names.qkv[0]}.bias"),
        patch_bias=there(f"{names.patch}.bias"),
        pre_norm=there(f"{names.pre_norm}.weight"),
        registers=arrays[names.registers].shape[1] if there(names.registers) else 0,
        layer_scale=1.0 if names.scale1 and there(f"{first}.{names.scale1}") else 0.0,
    )


HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1536: 24}  # by channels, as the papers have them


def obstacle(encoder: ViT, names: Names) -> str | None:
    """Returns what of an encoder a library cannot express, None if it is nothing."""
    timm = names in (TIMM, TIMM_PATCHES)
    hidden = round(encoder.dim * encoder.mlp_ratio)
    found = {
        f"stem {encoder.stem}": encoder.stem != "patch",
        "mean over patches instead of a class token": encoder.pool != "token" and not timm,
        "norm before the first block": encoder.pre_norm and not timm,
        "bias of patches beside a norm before the first block": encoder.pre_norm and encoder.patch_bias,
        f"eps {encoder.eps}": timm and encoder.eps != 1e-6,
        f"mlp_ratio {encoder.mlp_ratio}": names is DINOV2 and hidden % encoder.dim != 0,
    }
    return next((what for what, there in found.items() if there), None)
