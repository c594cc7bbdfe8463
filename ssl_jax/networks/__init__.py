"""Networks: encoders, heads and their composition; `build` makes one from a config."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from ssl_jax.errors import UserError, suggest
from ssl_jax.fields import Field, fields
from ssl_jax.networks.context import Context, PatchPrediction
from ssl_jax.networks.decoder import Decoder
from ssl_jax.networks.encoding import Encoding
from ssl_jax.networks.heads import MLP, Prototypes
from ssl_jax.networks.jigsaw import Jigsaw
from ssl_jax.networks.network import Network, Outputs
from ssl_jax.networks.norm import Norm
from ssl_jax.networks.resnet import ResNet
from ssl_jax.networks.text import TextTower
from ssl_jax.networks.vit import ViT

__all__ = [
    "ENCODERS",
    "HEADS",
    "HEAD_NAMES",
    "KINDS",
    "MLP",
    "PARTS",
    "Context",
    "Decoder",
    "Encoding",
    "Jigsaw",
    "Network",
    "Norm",
    "Outputs",
    "PatchPrediction",
    "Prototypes",
    "ResNet",
    "TextTower",
    "ViT",
    "build",
    "make",
    "minimum_size",
    "name_of",
    "options",
    "settings",
]

ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "resnet10": functools.partial(ResNet, layers=(1, 1, 1, 1)),
    "resnet18": functools.partial(ResNet, layers=(2, 2, 2, 2)),
    "resnet34": functools.partial(ResNet, layers=(3, 4, 6, 3)),
    "resnet50": functools.partial(ResNet, layers=(3, 4, 6, 3), bottleneck=True),
    "resnet101": functools.partial(ResNet, layers=(3, 4, 23, 3), bottleneck=True),
    "resnet152": functools.partial(ResNet, layers=(3, 8, 36, 3), bottleneck=True),
    "vit_tiny": functools.partial(ViT, dim=192, heads=3),
    "vit_small": functools.partial(ViT, dim=384, heads=6),
    "vit_base": functools.partial(ViT, dim=768, heads=12),
    "vit_large": functools.partial(ViT, dim=1024, depth=24, heads=16),
    "vit_huge": functools.partial(ViT, dim=1280, depth=32, heads=16, patch=14),
    "vit_giant": functools.partial(ViT, dim=1536, depth=40, heads=24, patch=14, mlp="swiglu"),  # DINOv2's
}
HEADS: dict[str, Callable[..., nn.Module]] = {"mlp": MLP, "prototypes": Prototypes}
HEAD_NAMES = ("projector", "predictor", "dense", "dense_predictor")
PARTS = {"encoder": ENCODERS} | dict.fromkeys(HEAD_NAMES, HEADS)  # what each part of a network may be, by name
DTYPES = ("float32", "bfloat16")
# Types of the fields of a method that are made from the config group of the field's name.
KINDS: tuple[type[nn.Module], ...] = (Network, Decoder, TextTower, MLP)


def make(kind: type[nn.Module], config: Mapping[str, Any], place: str) -> nn.Module:
    """Makes what a field of a method holds, from the config group of the field's name.

    Args:
        kind: the type of the field, one of `KINDS`.
        config: the whole config; its group holds the fields of the type, which computes in the `dtype` of `network`. A
            `Network` has a group as `build` takes it.
        place: name of the field and of its group.

    Raises:
        UserError: if a field is unknown or missing.
    """
    if kind is Network:
        return build(config[place])
    return filled(kind, config.get(place) or {}, place, config["network"].get("dtype", "float32"))


def build(config: Mapping[str, Any]) -> Network:
    """Makes a network from its config.

    Args:
        config: `encoder` and the heads of `HEAD_NAMES` hold a `name` of the table of `PARTS` (a head's is "mlp" unless
            it is set) and fields of that module; a head that is empty, None or left out is not there. `dtype` is that
            of the computation, "float32" or "bfloat16" (parameters and outputs are always float32). The rest are
            fields of `Network`.

    Raises:
        UserError: if a name or a field is unknown or a field is missing.
    """
    check_fields(config, {*settings(), *PARTS}, "network")
    dtype = config.get("dtype", "float32")
    if dtype not in DTYPES:
        raise UserError(f"the network cannot compute in {dtype!r}; {suggest(dtype, DTYPES)}")
    values = {name: value for name, value in config.items() if name != "dtype"}
    return Network(**values | {part: module(part, config.get(part) or {}, dtype) for part in PARTS})


def settings() -> dict[str, Field]:
    """Returns the fields of a network's config beside its parts."""
    own = {name: field for name, field in fields(Network).items() if name not in ("parent", "name", *PARTS)}
    return {"dtype": Field(str, "float32"), **own}


def options(factory: Callable) -> dict[str, Field]:
    """Returns the fields of a module that a config may set."""
    return fields(factory, without=("parent", "name", "dtype")) if factory is not dict else {}


def name_of(part: str, config: Mapping[str, Any]) -> str:
    """Returns the name in its table of the module that a config describes; heads are MLPs unless they say otherwise."""
    return config.get("name") or ("" if part == "encoder" else "mlp")


def minimum_size(encoder: nn.Module) -> int:
    """Returns the least side in pixels of an image that the encoder can see: its stride."""
    return encoder.stride


def module(part: str, config: Mapping[str, Any], dtype: str) -> nn.Module | None:
    """Makes an encoder or a head."""
    if not config and part != "encoder":
        return None
    table, place, name = PARTS[part], f"network.{part}", name_of(part, config)
    if name not in table:
        raise UserError(f"there is no {'encoder' if part == 'encoder' else 'head'} {name!r}; {suggest(name, table)}")
    given = {key: value for key, value in config.items() if key != "name"}
    known = options(table[name])
    others = {key for factory in table.values() for key in options(factory)} - set(known)
    if wrong := sorted(others & set(given)):
        unset = " ".join(f"--config.{place}.{key}=" for key in wrong)
        raise UserError(f"{name} has no {' and no '.join(wrong)}, which others have; unset: {unset}")
    return filled(table[name], given, place, dtype)


def filled(factory: Callable[..., nn.Module], given: Mapping[str, Any], place: str, dtype: str) -> nn.Module:
    """Makes a module from the fields that a config group gives."""
    known = options(factory)
    check_fields(given, known, place)
    if missing := [key for key, field in known.items() if field.required and key not in given]:
        raise UserError(f"{place} needs a value for {', '.join(missing)}")
    return factory(**given, dtype=dtype)


def check_fields(given, valid, place):
    """Complains of a field that there is not."""
    for name in given:
        if name not in valid:
            raise UserError(f"{place} has no field {name!r}; {suggest(name, valid)}")
