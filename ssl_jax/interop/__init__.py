"""Weights of other libraries: tables of names, used to export and to import."""

import collections
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from flax import traverse_util

from ssl_jax import augment, networks
from ssl_jax.errors import UserError, suggest
from ssl_jax.fields import to_dict
from ssl_jax.interop import files, published, resnets, vits
from ssl_jax.interop.rows import Arrays, Row, to_ours
from ssl_jax.method import Method, Stats
from ssl_jax.model import Model, Weights
from ssl_jax.networks import Network
from ssl_jax.words import number_of

__all__ = ["import_weights"]

SIZE, CROP = 224, 224 / 256  # how published networks are evaluated
ABOUT = "about"  # in an .npz file, what else a `Model` has, as JSON


def import_weights(file: str | os.PathLike, format: str | None = None, **encoder: Any) -> Model:
    """Loads published weights of a ResNet or a vision transformer.

    A checkpoint may be of torchvision, timm, Hugging Face (the folder or its file), DINO, DINOv2, MoCo, MAE or this
    library (`python -m ssl_jax.export --to=npz`). A `config.json` beside it is read. `Model.origin` says what was taken
    and what was not used, such as a classifier.

    Args:
        file: a .pth (with PyTorch installed), .safetensors or .npz file, or a folder with such a file.
        format: one of `published.FORMATS`; None: what the names of the arrays look like.
        **encoder: fields of `networks.ViT` that the weights do not tell, such as `heads`, `eps` and `mlp`; published
            networks of usual widths need none.

    Raises:
        UserError: if the file cannot be read, or holds no network that can be expressed here.
    """
    path = whole_path(pathlib.Path(file).expanduser())
    if format is not None and format not in published.FORMATS:
        raise UserError(f"there is no format {format!r}; {suggest(format, published.FORMATS)}")
    name, arrays = published.find(files.read(path), format)
    if name == "ssl_jax":
        return own(path, arrays)
    known, config = published.FORMATS[name], beside(path)
    made, table = understand(name, arrays, {**known.encoder, **told(config)}, encoder)
    ours, unused = to_ours(table, arrays)
    size = known.size or getattr(made, "size", SIZE)
    words = f"{path} ({name}): takes {len(arrays) - len(unused)} of {number_of(len(arrays), 'array')}{listed(unused)}"
    space = augment.SPACES["rgb"]._replace(**colours(config))
    variables = {kind: {"encoder": part} for kind, part in traverse_util.unflatten_dict(ours, sep="/").items()}
    # Images are kept larger than they are shown, so that the centre of a wide one is not enlarged.
    return as_model(Network(made), variables, space, size, 2 * size, CROP, "backbone", words)


def as_model(network: Network, variables: Mapping[str, Any], space: augment.Space, *how: Any) -> Model:
    """Returns a network that no method trained here as a `Model`."""
    weights = Weights({"network": variables["params"]}, Stats(variables.get("stats", {})))
    return Model(Method(network), weights, augment.Recipe((), space), *how)


def understand(name: str, arrays: Arrays, told: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[Any, list[Row]]:
    """Returns the encoder that arrays belong to, and the table of their names.

    Args:
        name: of their format.
        arrays: by name.
        told: fields of a vision transformer, from the format and from the file beside the weights.
        given: fields that the caller gives, which take precedence.

    Raises:
        UserError: if there is no such encoder here.
    """
    try:
        if names := vit_names(arrays):
            fields = {**told, **given}
            encoder = vits.from_arrays(arrays, names, fields.get("heads")).clone(**fields)
            return encoder, vits.table(encoder, names)
        chosen = resnets.HUGGING_FACE if name == "hf" else resnets.TIMM  # torchvision has the same, but for deep stems
        made = resnets.from_arrays(arrays, chosen).clone(**given)
        return made, resnets.table(made, chosen)
    except (KeyError, StopIteration, IndexError, TypeError, ValueError) as error:
        raise UserError(
            f"the weights are of no ResNet and of no vision transformer that can be expressed here ({error}); "
            "choose another file, or another format="
        ) from error


def vit_names(arrays: Arrays) -> vits.Names | None:
    """Returns the names of a vision transformer's arrays, None if they are of something else."""
    if vits.VIT.token in arrays:
        return vits.DINOV2 if f"{vits.DINOV2.block.format(0)}.norm1.weight" in arrays else vits.VIT
    if f"{vits.TIMM.patch}.weight" not in arrays:
        return None
    count = arrays[vits.TIMM.positions].shape[1]
    return vits.TIMM_PATCHES if math.isqrt(count) ** 2 == count else vits.TIMM


def listed(unused: Sequence[str]) -> str:
    """Returns what was not used, each part of the network once."""
    parts = collections.Counter(name.split(".")[0] for name in unused)
    words = [f"{part} ({count})" if count > 1 else part for part, count in parts.items()]
    return f"; unused: {', '.join(words)}" if words else ""


def whole_path(path: pathlib.Path) -> pathlib.Path:
    """Returns the file of weights that a path names, itself or in it."""
    if path.is_dir():
        found = [file for file in sorted(path.iterdir()) if file.suffix in (".safetensors", ".bin", ".pth", ".npz")]
        if len(found) != 1:
            raise UserError(f"{path} has {len(found)} files of weights; name one of them")
        return found[0]
    if not path.is_file():
        raise UserError(f"there is no file {path}; name a .pth, .safetensors or .npz file of weights")
    return path


def beside(path: pathlib.Path) -> dict[str, Any]:
    """Returns what the configs beside a file of timm or Hugging Face say, in one dict."""
    found: dict[str, Any] = {}
    for name in ("config.json", "preprocessor_config.json"):
        file = path.with_name(name)
        try:
            config = json.loads(file.read_text()) if file.is_file() and path.suffix != ".npz" else {}
        except (OSError, ValueError) as error:
            raise UserError(f"{file} beside the weights is damaged; restore it, or move the weights away") from error
        found |= config | config.get("pretrained_cfg", {}) | config.get("model_args", {})
    return found


def told(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a vision transformer that a config of timm or Hugging Face sets and arrays do not tell."""
    names = {"num_attention_heads": "heads", "num_heads": "heads", "layer_norm_eps": "eps"}
    fields = {ours: config[theirs] for theirs, ours in names.items() if theirs in config}
    architecture = config.get("architecture", "")  # timm's CLIP has OpenAI's epsilon, and some of it OpenAI's GELU
    quick = "quickgelu" in architecture or "quick_gelu" in (config.get("hidden_act"), config.get("act_layer"))
    return fields | ({"eps": 1e-5} if "clip" in architecture else {}) | ({"mlp": "quick_gelu"} if quick else {})


def colours(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the mean and standard deviation of the channels, if a config has them; else they are ImageNet's."""
    pairs = {"mean": ("mean", "image_mean"), "std": ("std", "image_std")}
    return {ours: tuple(config[name]) for ours, names in pairs.items() for name in names if name in config}


def own(path: pathlib.Path, arrays: Arrays) -> Model:
    """Returns the model of a file that this library exported."""
    if ABOUT not in arrays:
        raise UserError(f"{path} does not say which network it holds; export it with python -m ssl_jax.export --to=npz")
    try:
        about = json.loads(str(arrays[ABOUT]))
        how = [about[name] for name in ("size", "canvas", "crop", "feature")]
        space = augment.SPACES[about["space"]]._replace(mean=tuple(about["mean"]), std=tuple(about["std"]))
        network = networks.build(to_dict(about["network"]))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"what {path} says of its network is damaged; export it once more") from error
    table = {name: array for name, array in arrays.items() if name != ABOUT}
    return as_model(network, traverse_util.unflatten_dict(table, sep="/"), space, *how, f"{path}: {about['origin']}")
