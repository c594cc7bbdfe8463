"""Writes an encoder as another library reads it, and says how to use it there."""

import json
import math
import os
import pathlib
import pickle
from collections.abc import Callable
from typing import Any

from ssl_jax import command
from ssl_jax.errors import UserError
from ssl_jax.interop import files, resnets, vits
from ssl_jax.interop.rows import Arrays, Row, to_theirs
from ssl_jax.model import Model
from ssl_jax.networks import ResNet, ViT
from ssl_jax.networks.transformer import gated_width

DEPTHS: dict[tuple[bool, tuple[int, ...]], int] = {
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
    (True, (3, 4, 23, 3)): 101,
    (True, (3, 8, 36, 3)): 152,
}
LEAST = {False: "resnet18", True: "resnet50"}  # what another depth is a variant of, by whether it has bottlenecks


def check(to: str, encoder: Any, names: Any) -> None:
    """Checks that a library can express an encoder.

    Raises:
        UserError: if it cannot.
    """
    what = (vits if isinstance(encoder, ViT) else resnets).obstacle(encoder, names)
    if what:
        raise UserError(f"{to} cannot express network.encoder with {what}; export with --to=npz, or to another library")


def rows(encoder: Any, names: Any) -> list[Row]:
    """Returns the table of an encoder."""
    return vits.table(encoder, names) if isinstance(encoder, ViT) else resnets.table(encoder, names)


def write_torchvision(to: str, model: Model, encoder: Any, arrays: Arrays, out: str) -> str:
    only_resnets(to, encoder)
    check(to, encoder, resnets.TORCHVISION)
    path = file_in(out, ".safetensors")
    files.write_safetensors(path, to_theirs(resnets.table(encoder, resnets.TORCHVISION), arrays))
    number = DEPTHS.get((encoder.bottleneck, encoder.layers))
    kind = "Bottleneck" if encoder.bottleneck else "BasicBlock"
    made = f"resnet{number}()" if number else f"ResNet(models.resnet.{kind}, {list(encoder.layers)})"
    return lines(
        "import torch",
        "from safetensors.torch import load_file",
        "from torchvision import models",
        f"model = models.resnet.{made}",
        "model.fc = torch.nn.Identity()  # features come out",
        f"model.load_state_dict(load_file({str(path)!r}))",
        normalized(model),
    )


def write_timm(to: str, model: Model, encoder: Any, arrays: Arrays, out: str) -> str:
    names, architecture, options = (timm_vit if isinstance(encoder, ViT) else timm_resnet)(encoder)
    check(to, encoder, names)
    folder = command.writable_folder(out)
    files.write_safetensors(folder / "model.safetensors", to_theirs(rows(encoder, names), arrays))
    _, _, mean, std = model.recipe.space
    seen = {"input_size": [3, model.size, model.size], "crop_pct": model.crop, "interpolation": "bicubic"}
    config = {
        "architecture": architecture,
        "num_classes": 0,
        "num_features": encoder.dim if isinstance(encoder, ViT) else encoder.stages[-1][2],
        "global_pool": options.get("global_pool", "avg"),
        "model_args": options,
        "pretrained_cfg": seen | {"num_classes": 0, "mean": mean, "std": std},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return lines("import timm", f"model = timm.create_model('local-dir:{folder}', pretrained=True)", normalized(model))


def timm_resnet(encoder: ResNet) -> tuple[resnets.Names, str, dict[str, Any]]:
    """Returns the names of the arrays, the architecture that is nearest, and the arguments in which it differs."""
    number = DEPTHS.get((encoder.bottleneck, encoder.layers))
    options: dict[str, Any] = {} if number else {"layers": encoder.layers}
    if encoder.stem == "deep":
        options |= {"stem_type": "deep", "stem_width": encoder.stem_width // 2}
    return resnets.TIMM, f"resnet{number}" if number else LEAST[encoder.bottleneck], options


def timm_vit(encoder: ViT) -> tuple[vits.Names, str, dict[str, Any]]:
    """Returns the same of a vision transformer."""
    ratio, architecture = encoder.mlp_ratio, "vit_small_patch16_224"
    if encoder.mlp == "swiglu":
        # The width of both halves; timm rounds the product of channels and ratio down.
        ratio = math.nextafter(2 * gated_width(round(encoder.dim * ratio)) / encoder.dim, math.inf)
        architecture = "vit_giant_patch14_dinov2"
    options = {
        "img_size": encoder.size,
        "patch_size": encoder.patch,
        "embed_dim": encoder.dim,
        "depth": encoder.depth,
        "num_heads": encoder.heads,
        "mlp_ratio": ratio,
        "qkv_bias": encoder.bias,
        "init_values": encoder.layer_scale or (1.0 if encoder.mlp == "swiglu" else None),
        "class_token": encoder.pool == "token",
        "global_pool": "token" if encoder.pool == "token" else "avg",
        "fc_norm": False,
        "reg_tokens": encoder.registers,
        "no_embed_class": True,
        "pre_norm": encoder.pre_norm,
    }
    options |= {"act_layer": "quick_gelu"} if encoder.mlp == "quick_gelu" else {}
    return vits.TIMM_PATCHES, architecture, options


def write_hf(to: str, model: Model, encoder: Any, arrays: Arrays, out: str) -> str:
    names, kind, config = (huggingface_vit if isinstance(encoder, ViT) else huggingface_resnet)(encoder)
    check(to, encoder, names)
    folder = command.writable_folder(out)
    files.write_safetensors(folder / "model.safetensors", to_theirs(rows(encoder, names), arrays))
    shared = {"architectures": [kind], "num_channels": 3, "torch_dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(shared | config, indent=1))
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor(model), indent=1))
    extra = ", add_pooling_layer=False" if kind == "ViTModel" else ""
    read = "pooler_output[:, :, 0, 0]" if kind == "ResNetModel" else "last_hidden_state[:, 0]"
    return lines(
        f"from transformers import {kind}",
        f"model = {kind}.from_pretrained({str(folder)!r}{extra})",
        f"features = model(pixel_values).{read}",
        normalized(model),
    )


def preprocessor(model: Model) -> dict[str, Any]:
    """Returns how Hugging Face prepares images as evaluation here does."""
    _, _, mean, std = model.recipe.space
    return {
        "image_processor_type": "BitImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": round(model.size / model.crop)},
        "resample": 3,  # bicubic
        "do_center_crop": True,
        "crop_size": {"height": model.size, "width": model.size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
    }


def huggingface_resnet(encoder: ResNet) -> tuple[resnets.Names, str, dict[str, Any]]:
    """Returns the names of the arrays, the class and the config of a ResNet at Hugging Face."""
    config = {
        "model_type": "resnet",
        "embedding_size": round(encoder.stem_width * encoder.width),
        "hidden_sizes": [output for _, _, output in encoder.stages],
        "depths": encoder.layers,
        "layer_type": "bottleneck" if encoder.bottleneck else "basic",
        "hidden_act": "relu",
    }
    return resnets.HUGGING_FACE, "ResNetModel", config


def huggingface_vit(encoder: ViT) -> tuple[vits.Names, str, dict[str, Any]]:
    """Returns the same of a vision transformer."""
    shared = {
        "hidden_size": encoder.dim,
        "num_hidden_layers": encoder.depth,
        "num_attention_heads": encoder.heads,
        "hidden_act": "quick_gelu" if encoder.mlp == "quick_gelu" else "gelu",
        "layer_norm_eps": encoder.eps,
        "image_size": encoder.size,
        "patch_size": encoder.patch,
        "qkv_bias": encoder.bias,
    }
    hidden = round(encoder.dim * encoder.mlp_ratio)
    if not (encoder.registers or encoder.layer_scale or encoder.mlp == "swiglu"):
        return vits.VIT, "ViTModel", shared | {"model_type": "vit", "intermediate_size": hidden}
    shared |= {
        "mlp_ratio": hidden // encoder.dim,
        "layerscale_value": encoder.layer_scale or 1.0,
        "use_swiglu_ffn": encoder.mlp == "swiglu",
    }
    if not encoder.registers:
        return vits.DINOV2, "Dinov2Model", shared | {"model_type": "dinov2"}
    own = {"model_type": "dinov2_with_registers", "num_register_tokens": encoder.registers}
    return vits.DINOV2, "Dinov2WithRegistersModel", shared | own


def write_detectron2(to: str, model: Model, encoder: Any, arrays: Arrays, out: str) -> str:
    """Writes what MoCo's convert-pretrain-to-detectron2.py does of a checkpoint of its own."""
    only_resnets(to, encoder)
    number = DEPTHS.get((encoder.bottleneck, encoder.layers))
    check(to, encoder, resnets.DETECTRON2)
    if not encoder.bottleneck or number is None:
        raise UserError(f"{to} takes ResNet-50, 101 and 152; set network.encoder.name to one of them")
    path = file_in(out, ".pkl")
    weights = to_theirs(resnets.table(encoder, resnets.DETECTRON2), arrays)
    with path.open("wb") as stream:
        pickle.dump({"model": weights, "__author__": "ssl_jax", "matching_heuristics": True}, stream)
    _, _, mean, std = model.recipe.space
    levels = {"PIXEL_MEAN": mean, "PIXEL_STD": std}
    pixels = [f"MODEL.{name} '{[round(255 * value, 3) for value in values]}'" for name, values in levels.items()]
    return " \\\n  ".join(
        [
            "python tools/train_net.py --config-file configs/COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml",
            f"MODEL.WEIGHTS {path.resolve()} MODEL.RESNETS.DEPTH {number} MODEL.RESNETS.STRIDE_IN_1X1 False",
            *pixels,
            "INPUT.FORMAT RGB MODEL.RESNETS.NORM SyncBN MODEL.BACKBONE.FREEZE_AT 0 TEST.PRECISE_BN.ENABLED True",
        ]
    )


WRITERS: dict[str, Callable[..., str]] = {
    "torchvision": write_torchvision,
    "timm": write_timm,
    "hf": write_hf,
    "detectron2": write_detectron2,
}


def only_resnets(to: str, encoder: Any) -> None:
    if not isinstance(encoder, ResNet):
        raise UserError(f"{to} has no vision transformer that can take these weights; export to timm or hf")


def normalized(model: Model) -> str:
    _, _, mean, std = model.recipe.space
    return f"# images: RGB in [0, 1], {model.size} x {model.size}, minus {mean}, divided by {std}"


def lines(*texts: str) -> str:
    return "\n".join(f"  {text}" for text in texts)


def file_in(out: str | os.PathLike, suffix: str) -> pathlib.Path:
    """Returns the path of a file to write, which must have a suffix."""
    path = command.writable_file(str(out))
    if path.suffix != suffix:
        raise UserError(f"{path} would hold a {suffix} file; name it so with --out")
    return path
