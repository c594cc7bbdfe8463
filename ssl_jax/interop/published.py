"""How published checkpoints nest and name the arrays of a network, brought to the names of the tables."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ssl_jax.errors import UserError

Table = dict[str, np.ndarray]


class Format(NamedTuple):
    """Checkpoints of one origin."""

    sign: str  # a pattern of the beginning of a name that others do not have
    prefix: str = ""  # a pattern of what stands before the names of the encoder's arrays
    encoder: Mapping[str, Any] = {}  # fields that the arrays do not tell
    size: int | None = None  # side of images in pixels; None: that of the positions


PLACES = ("teacher", "state_dict", "model")  # where checkpoints keep the arrays of the network
MOCO, DINO = r"module\.(encoder_q|base_encoder)\.", r"(module\.)?backbone\."
# The first whose sign is there is taken. DINO and DINOv2 interpolate positions in their own way.
FORMATS = {
    "ssl_jax": Format("params/encoder/"),
    "moco": Format(MOCO, MOCO, {"heads": 12}),  # of both transformers of MoCo v3, the small one too
    "hf": Format(r".*(embeddings\.cls_token|embedder\.)", r"(vit|dinov2|dinov2_with_registers|resnet)\.(?=em|en|la)"),
    "mae": Format("decoder_pos_embed"),
    "dinov2": Format(r".*(register_tokens|mask_token)", r"backbone\.", {"resampling": "offset"}, 224),
    "dino": Format(DINO, DINO, {"resampling": "offset"}),
    "timm": Format(r"patch_embed\.", "", {"resampling": "antialias"}),
    "torchvision": Format(r"(module\.)?layer1\.0\.conv1\.", r"module\."),
}
# Names that mean the same: on the left what is found, on the right what the tables have.
ALIASES = (
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # DINOv2 trains blocks in chunks
    (r"^register_tokens$", "reg_token"),
    (r"\bmlp\.w12\.", "mlp.fc1."),
    (r"\bmlp\.w3\.", "mlp.fc2."),
    # Hugging Face since version 5.
    (r"^layers\.(\d+)\.mlp\.fc1\.", r"encoder.layer.\1.intermediate.dense."),
    (r"^layers\.(\d+)\.mlp\.fc2\.", r"encoder.layer.\1.output.dense."),
    (r"^layers\.", "encoder.layer."),
    *((rf"\battention\.{name[0]}_proj\.", f"attention.attention.{name}.") for name in ("query", "key", "value")),
    (r"\battention\.o_proj\.", "attention.output.dense."),
    (r"\bmlp\.down_proj\.", "mlp.weights_out."),
)


def find(tree: Mapping[str, Any], name: str | None) -> tuple[str, Table]:
    """Returns the name of the format of a checkpoint, and the encoder's arrays under the names of the tables.

    Args:
        tree: what the file holds.
        name: the format; None: what the arrays look like.

    Raises:
        UserError: if they look like none.
    """
    for place in PLACES:
        tree = tree.get(place, tree) if isinstance(tree, Mapping) else tree
    if not isinstance(tree, Mapping):
        raise UserError("the file holds no arrays by name; choose one with the weights of a network")
    arrays = flatten(tree)
    if name is None:
        name = next((one for one, format in FORMATS.items() if any(re.match(format.sign, key) for key in arrays)), None)
    if name is None:
        some = ", ".join(list(arrays)[:3])
        raise UserError(f"the weights, {some}, ..., are of no format that is known here: {', '.join(FORMATS)}")
    prefix = FORMATS[name].prefix
    chosen = {re.sub(f"^{prefix}", "", key): array for key, array in arrays.items() if re.match(prefix, key)}
    return name, gated({renamed(key): array for key, array in (chosen or arrays).items()})


def flatten(tree: Mapping[str, Any], before: str = "") -> Table:
    """Returns nested dicts of arrays as one, with dots between the keys."""
    found: Table = {}
    for key, value in tree.items():
        found |= flatten(value, f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return found


def renamed(name: str) -> str:
    """Returns the name that the tables have for a name."""
    for pattern, ours in ALIASES:
        name = re.sub(pattern, ours, name)
    return name


def gated(table: Table) -> Table:
    """Returns a table in which the two halves of a gated map that are kept apart are one array."""
    joined = dict(table)
    for name in table:
        if ".gate_proj." in name:
            halves = [joined.pop(name), joined.pop(name.replace(".gate_proj.", ".up_proj."))]
            joined[name.replace(".gate_proj.", ".weights_in.")] = np.concatenate(halves)
    return joined
