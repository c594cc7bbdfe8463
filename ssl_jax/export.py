"""The command that writes weights for other libraries: `python -m ssl_jax.export --workdir=DIR --to=timm --out=DIR`."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from ssl_jax import augment, command
from ssl_jax.atomic import replacing
from ssl_jax.errors import UserError
from ssl_jax.fields import to_dict
from ssl_jax.interop import ABOUT, vits
from ssl_jax.interop.writers import WRITERS, file_in, lines
from ssl_jax.model import Model, load
from ssl_jax.networks import ViT
from ssl_jax.workdir import read_config


def main(options) -> None:
    model = load(options.workdir)
    if options.to == "npz":
        use = write_npz(model, read_config(options.workdir)["network"], file_in(options.out, ".npz"))
    else:
        use = WRITERS[options.to](options.to, model, *encoder_of(model, options.to), options.out)
    print(f"{options.out}: {model.origin}, for {options.to}\n{use}")


def encoder_of(model: Model, to: str) -> tuple[Any, dict[str, np.ndarray]]:
    """Returns the encoder of a model, and its arrays by path, such as "params/stem_conv1/kernel".

    Raises:
        UserError: if no other library can express how the model sees images.
    """
    if isinstance(model.variables, tuple):
        raise UserError(f"the run trains several networks, which {to} cannot express; see Model.variables")
    if model.recipe.space.from_rgb is not augment.SPACES["rgb"].from_rgb:
        raise UserError(f"the network sees colours in another space than RGB, which {to} cannot express; use --to=npz")
    if model.network.statistics:
        raise UserError(f"network.statistics has a row for each size, which {to} cannot express; use --to=npz")
    trees = {"params": model.variables["params"], "stats": model.variables["batch_stats"]}
    own = {kind: tree["encoder"] for kind, tree in trees.items() if "encoder" in tree}
    arrays = traverse_util.flatten_dict(own, sep="/")
    encoder = model.network.encoder
    if isinstance(encoder, ViT) and encoder.stem == "patch":
        return vits.at_size(encoder, arrays, model.size)
    return encoder, arrays


def write_npz(model: Model, network: Mapping[str, Any], path: pathlib.Path) -> str:
    """Writes the whole network with what `import_weights` needs; `init.from` takes it too."""
    variables = model.variables
    if isinstance(variables, tuple):
        raise UserError("the run trains several networks, which one file cannot hold; load the run with ssl_jax.load")
    trees = {"params": variables["params"], "stats": variables["batch_stats"]}
    from_rgb, _, mean, std = model.recipe.space
    about = {
        "network": to_dict(network),
        "space": next(name for name, space in augment.SPACES.items() if space.from_rgb is from_rgb),
        "mean": mean,
        "std": std,
        **{name: getattr(model, name) for name in ("size", "canvas", "crop", "feature", "origin")},
    }
    arrays: dict[str, Any] = traverse_util.flatten_dict(trees, sep="/")
    with replacing(path) as part:
        np.savez(part, **arrays | {ABOUT: np.array(json.dumps(about))})
    return lines("import ssl_jax", f"model = ssl_jax.import_weights({str(path)!r})")


def parser() -> command.Parser:
    parser = command.Parser("export", "Writes the network of a trained run for another library.")
    parser.add_argument("--workdir", required=True, metavar="DIR", help="the workdir of a trained run")
    parser.add_argument("--to", required=True, choices=[*WRITERS, "npz"], help="the library, or npz: this one")
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE_OR_DIR",
        help="a folder for timm and hf; .safetensors for torchvision, .pkl for detectron2, .npz for npz",
    )
    return parser


if __name__ == "__main__":
    command.run(main, parser())
