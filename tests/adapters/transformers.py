"""Golden cases of vision transformers with the weights of DINO, timm and Hugging Face."""

import jax
import jax.numpy as jnp
import numpy as np

from adapters import adapter
from adapters.weights import TORCH, nchw, nhwc, variables
from ssl_jax.networks import Norm, ViT
from ssl_jax.networks.positions import resample, sincos


def vit_variables(names, arrays, depth, prefix="param/blocks"):
    """names: our module of a block -> theirs; patch and norm: names outside the blocks."""
    outside = {"patch": names.pop("patch"), "norm": names.pop("norm")}
    table = [(ours, f"param/{theirs}") for ours, theirs in outside.items()]
    table += [
        (f"block{i + 1}/{ours}", f"{prefix}.{i}.{theirs}") for i in range(depth) for ours, theirs in names.items()
    ]
    given = variables(table, arrays, TORCH)
    kernel = given["params"]["patch"]["kernel"]
    given["params"]["patch"]["kernel"] = kernel.reshape(-1, kernel.shape[-1])
    return given


def vit_tokens(token, positions):
    """Their class token [1, 1, D] and positions [1, 1 + N, D] as our parameters."""
    return {"token": np.float64(token[0, 0]) + positions[0, 0], "positions": np.float64(positions[0, 1:])}


def vit_outputs(model, given, x):
    """Features, final tokens, and the attention weights and the output of every block."""

    def compute(given, x):
        tokens, layers = model.apply(given, x, method="tokens")
        attention = [model.apply(given, x, block, method="attention") for block in range(model.depth)]
        return model.apply(given, x).pooled, tokens, jnp.stack(attention), layers[1:]

    return jax.jit(compute)(given, nhwc(x))


def timm_names():
    return {
        "patch": "patch_embed.proj",
        "norm": "norm",
        "norm1": "norm1",
        "norm2": "norm2",
        "attention/qkv": "attn.qkv",
        "attention/out": "attn.proj",
        "linear1": "mlp.fc1",
        "linear2": "mlp.fc2",
    }


def timm_model(args, arrays, **options):
    shape = {"patch": args["patch"], "size": args["img"], "dim": args["embed_dim"]}
    model = ViT(**shape, depth=args["depth"], heads=args["heads"], eps=args["ln_eps"], **options)
    given = vit_variables(timm_names(), arrays, args["depth"])
    given["params"] |= vit_tokens(arrays["param/cls_token"], arrays["param/pos_embed"])
    return model, given


@adapter("dino_vit")
def dino_vit(args, arrays):
    model, given = timm_model(args, arrays, mlp_ratio=args["mlp_ratio"], bias=args["qkv_bias"], resampling="offset")
    features, _, attention, blocks = vit_outputs(model, given, arrays["x"])
    features_other, _, attention_other, _ = vit_outputs(model, given, arrays["x_other"])
    norm = Norm("layer", eps=args["ln_eps"])
    side = args["img_other"] // args["patch"]
    positions = resample(jnp.asarray(given["params"]["positions"]), side, side, "offset")

    def loss(params, x):
        return jnp.sum(model.apply({"params": params}, x).pooled * arrays["cotangent"])

    grad, grad_x = jax.jit(jax.grad(loss, (0, 1)))(given["params"], nhwc(arrays["x"]))
    return {
        "cls": features,
        "cls_other": features_other,
        "last_attention": attention[-1],
        "last_attention_other": attention_other[-1],
        "tokens_all_blocks_normed": norm.apply({"params": given["params"]["norm"]}, blocks),
        "pos_embed_interpolated_other": np.concatenate([arrays["param/pos_embed"][0, :1], positions])[None],
        "grad_x": nchw(grad_x),
        "grad_pos_embed": jnp.concatenate([grad["token"][None], grad["positions"]])[None],
    }


@adapter("timm_vit", deviates={"tokens_other": (1e-6, "timm resamples its positions in float32")})
def timm_vit(args, arrays):
    model, given = timm_model(args, arrays, resampling="antialias")
    features, tokens, attention, _ = vit_outputs(model, given, arrays["x"])
    _, tokens_other, _, _ = vit_outputs(model, given, arrays["x_other"])
    return {"tokens": tokens, "pooled": features, "attention": attention, "tokens_other": tokens_other}


@adapter(
    "hf_vit",
    ignored={"*pooler*": "a trained layer for classification, which no self-supervised encoder has"},
    deviates={"*": (1e-6, "Hugging Face computes the softmax of the attention in float32")},
)
def huggingface_vit(args, arrays):
    shape = {"patch": args["patch"], "size": args["img"], "dim": args["hidden_size"]}
    model = ViT(**shape, depth=args["depth"], heads=args["heads"], eps=args["ln_eps"])
    names = {
        "patch": "embeddings.patch_embeddings.projection",
        "norm": "layernorm",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attention/out": "attention.o_proj",
        "linear1": "mlp.fc1",
        "linear2": "mlp.fc2",
    }
    given = vit_variables(names, arrays, args["depth"], "param/layers")
    for i in range(args["depth"]):
        parts = [f"param/layers.{i}.attention.{part}_proj" for part in "qkv"]
        given["params"][f"block{i + 1}"]["attention"]["qkv"] = {
            "kernel": np.concatenate([np.float64(arrays[part + ".weight"].T) for part in parts], axis=1),
            "bias": np.concatenate([np.float64(arrays[part + ".bias"]) for part in parts]),
        }
    embeddings = (arrays["param/embeddings.cls_token"], arrays["param/embeddings.position_embeddings"])
    given["params"] |= vit_tokens(*embeddings)
    _, tokens, attention, _ = vit_outputs(model, given, arrays["x"])
    _, tokens_other, _, _ = vit_outputs(model, given, arrays["x_other"])
    return {"last_hidden_state": tokens, "last_hidden_state_other": tokens_other, "attention": attention}


@adapter("mocov3_posembed")
def mocov3_positions(args, arrays):
    # With separate height and width, the width varies slowest in the original: its columns are our rows.
    columns, rows = args["grid_h_w"]
    table = sincos(np.arange(rows), np.arange(columns), args["dim"])
    return {"pos_embed": np.concatenate([np.zeros((1, args["dim"])), table])[None]}
