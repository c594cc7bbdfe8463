"""Golden cases of MAE."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from adapters import adapter
from adapters.transformers import timm_names, vit_tokens, vit_variables
from adapters.weights import TORCH, nchw, nhwc, to_torch, variables
from ssl_jax.methods import METHODS
from ssl_jax.networks import Decoder, Network, ViT
from ssl_jax.networks.positions import resample, sincos
from ssl_jax.patches import patchify, unpatchify

LAYER_NORM = {"eps": 1e-5}  # PyTorch's default, which the bare class has


def positions(side, dim):
    """With a row of zeros for the class token."""
    return np.concatenate([np.zeros((1, dim)), sincos(np.arange(side), np.arange(side), dim, "columns")])


@adapter("mae_posembed")
def mae_positions(args, arrays):
    theirs, side = arrays["pos_embed"][0], args["new_grid"]
    grid = resample(jnp.asarray(theirs[1:]), side, side)
    return {
        "sincos": positions(args["grid"], args["dim"]),
        "pos_embed_interpolated": jnp.concatenate([theirs[:1], grid])[None],
    }


def decoder_params(args, arrays):
    blocks = {ours: theirs for ours, theirs in timm_names().items() if ours not in ("patch", "norm")}
    table = [("embed", "decoder_embed"), ("norm", "decoder_norm"), ("output", "decoder_pred")]
    for i in range(args["decoder_depth"]):
        table += [(f"block{i + 1}/{ours}", f"decoder_blocks.{i}.{theirs}") for ours, theirs in blocks.items()]
    params = variables([(ours, f"param/{theirs}") for ours, theirs in table], arrays, TORCH)["params"]
    return params | {"mask_token": np.float64(arrays["param/mask_token"][0, 0])}


@adapter(
    "mae",
    ignored={"ids_restore": "our decoder gets the patches in their random order, which is never undone"},
    deviates={"*": (1e-6, "the authors round their fixed positions to float32")},
)
def mae(args, arrays):
    side, patch = args["img"] // args["patch"], args["patch"]
    shape = {"patch": patch, "size": args["img"], "dim": args["embed_dim"], "depth": args["depth"]}
    encoder = ViT(**shape, heads=args["heads"], positions="sincos_columns", **LAYER_NORM)
    decoder = Decoder(args["decoder_dim"], args["decoder_depth"], args["decoder_heads"], **LAYER_NORM)
    method = METHODS["mae"](Network(encoder), decoder, args["mask_ratio"], args["norm_pix_loss"])
    given = vit_variables(timm_names(), arrays, args["depth"])["params"]
    given["token"] = vit_tokens(arrays["param/cls_token"], arrays["param/pos_embed"])["token"]
    params = {"network": {"encoder": given}, "decoder": decoder_params(args, arrays)}
    images, order = nhwc(arrays["images"]), jnp.argsort(arrays["noise"], axis=1)
    visible = method.visible(side * side)

    def compute(params):
        prediction, *_ = method.predict(params, method.State({}), images, order)
        other = dataclasses.replace(method, normalize=not method.normalize)
        return method.error(prediction, images, order), (prediction, other.error(prediction, images, order))

    (loss, (prediction, other)), grad = jax.jit(jax.value_and_grad(compute, has_aux=True))(params)
    latent, _ = encoder.apply({"params": given}, images, None, order[:, :visible], method="tokens")
    place = jnp.argsort(order, axis=1)
    prediction = jnp.take_along_axis(prediction, place[:, :, None], axis=1)
    encoder_grad, decoder_grad = grad["network"]["encoder"], grad["decoder"]
    kernel = encoder_grad["patch"]["kernel"].reshape(patch, patch, 3, -1)
    return {
        "mask": place >= visible,
        "latent": latent,
        "pred": prediction,
        "loss": loss,
        "loss_other_norm_pix": other,
        "patches": patchify(images, patch),
        "unpatchified_pred": nchw(unpatchify(prediction, (side, side), patch)),
        "param/pos_embed": positions(side, args["embed_dim"])[None],
        "param/decoder_pos_embed": positions(side, args["decoder_dim"])[None],
        "grad/cls_token": encoder_grad["token"][None, None],
        "grad/mask_token": decoder_grad["mask_token"][None, None],
        "grad/patch_embed.proj.weight": to_torch(kernel),
        "grad/norm.weight": encoder_grad["norm"]["scale"],
        "grad/decoder_pred.bias": decoder_grad["output"]["bias"],
    }
