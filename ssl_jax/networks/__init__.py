"""Networks: encoders, heads and their composition; `build` makes one from a config."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from ssl_jax.errors import UserError, nearest
from ssl_jax.networks.context import Context, PatchPrediction
from ssl_jax.networks.encoding import Encoding
from ssl_jax.networks.heads import MLP, Prototypes
from ssl_jax.networks.jigsaw import Jigsaw
from ssl_jax.networks.network import Network, Outputs
from ssl_jax.networks.norm import Norm
from ssl_jax.networks.resnet import ResNet
from ssl_jax.networks.vit import ViT

__all__ = [
    "ENCODERS",
    "MLP",
    "Context",
    "Encoding",
    "Jigsaw",
    "Network",
    "Norm",
    "Outputs",
    "PatchPrediction",
    "Prototypes",
    "ResNet",
    "ViT",
    "build",
    "minimum_size",
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
}
DTYPES = ("float32", "bfloat16")


def build(config: Mapping[str, Any]) -> Network:
    """Makes a network from its config.

    Args:
        config: `encoder` holds a `name` of `ENCODERS` and fields of that encoder; `projector`, `predictor` and `dense`
            hold the fields of an `MLP` or of `Prototypes`, or are None or left out; `passes` is "view" or "resolution";
            `dtype` is that of the computation, "float32" or "bfloat16" (parameters and outputs are always float32).

    Raises:
        UserError: if a name or a field is unknown or a field is missing.
    """
    check_fields(config, {"encoder", "projector", "predictor", "dense", "passes", "dtype"}, "network")
    dtype = config.get("dtype", "float32")
    if dtype not in DTYPES:
        raise UserError(f"the network cannot compute in {dtype!r}; {nearest(dtype, DTYPES)}")
    encoder = dict(config.get("encoder") or {})
    name = encoder.pop("name", "")
    if name not in ENCODERS:
        raise UserError(f"there is no encoder {name!r}; {nearest(name, ENCODERS)}")
    elsewhere = {field for factory in ENCODERS.values() for field in fields(factory)} - set(fields(ENCODERS[name]))
    foreign = sorted(elsewhere & set(encoder))
    if foreign:
        unset = " ".join(f"--config.network.encoder.{field}=" for field in foreign)
        raise UserError(f"{name} has no {' and no '.join(foreign)}, which other encoders have; unset: {unset}")
    return Network(
        encoder=make(ENCODERS[name], encoder, dtype, "network.encoder"),
        projector=head(config.get("projector"), dtype, "network.projector"),
        predictor=head(config.get("predictor"), dtype, "network.predictor"),
        dense=head(config.get("dense"), dtype, "network.dense"),
        passes=config.get("passes", "view"),
    )


def minimum_size(encoder: nn.Module) -> int:
    """Returns the least side in pixels of an image that the encoder can see: its stride."""
    return encoder.stride


def head(options, dtype, place):
    if not options:
        return None
    return make(Prototypes if "prototypes" in options else MLP, options, dtype, place)


def make(factory, options, dtype, place):
    possible = fields(factory)
    check_fields(options, possible, place)
    missing = [name for name, field in possible.items() if field.default is field.empty and name not in options]
    if missing:
        raise UserError(f"{place} needs a value for {', '.join(missing)}")
    return factory(**options, dtype=dtype)


def fields(factory):
    """The parameters of a module's constructor that a config may set, by name."""
    parameters = inspect.signature(factory).parameters
    return {name: value for name, value in parameters.items() if name not in ("parent", "name", "dtype")}


def check_fields(options, valid, place):
    for name in options:
        if name not in valid:
            raise UserError(f"{place} has no field {name!r}; {nearest(name, valid)}")
