"""A teacher: the frozen encoder of a run that has been trained, as its workdir holds it."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable

import jax
from flax import traverse_util
from ml_collections import ConfigDict

from ssl_jax import augment, checkpoint, networks
from ssl_jax.errors import UserError
from ssl_jax.fields import to_dict
from ssl_jax.method import Variables, encode
from ssl_jax.networks import Network
from ssl_jax.run import build_recipe


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A frozen encoder; a config names it by the workdir of its run.

    A method puts `variables` into its first state, so its own checkpoints hold them: a run that is resumed goes on with
    the teacher it began with, even if that one has been trained further meanwhile.
    """

    network: Network
    path: pathlib.Path  # of a checkpoint
    convert: Callable[[jax.Array], jax.Array]  # from what the student sees to the teacher's colours and normalisation

    @functools.cached_property
    def variables(self) -> Variables:
        """The encoder's `params` and `batch_stats`, read once, on the host.

        Raises:
            UserError: the run has no encoder under the usual name.
        """
        directory, step = self.path.parent, int(self.path.name)
        parts = ("params/network/encoder/", "state/stats/encoder/")
        names = [name for name in checkpoint.array_names(directory, step) if name.startswith(parts)]
        table = checkpoint.read_arrays(directory, step, names)
        tree = traverse_util.unflatten_dict(table, sep="/")
        if "params" not in tree:
            raise UserError(
                f"the run of {self.path} has no single encoder to learn from; choose another method.teacher"
            )
        return Variables(tree["params"]["network"], tree.get("state", {}).get("stats", {}))

    def features(self, variables: Variables, images: jax.Array) -> jax.Array:
        """Returns the encoder's features [B, D] of images [B, H, W, C], normalised as the student sees them."""
        return encode(self.network, variables, self.convert(images))


def open_teacher(workdir: str | None, space: augment.Space) -> Teacher:
    """Opens the encoder of the run in a workdir at its latest checkpoint, for images in the student's colour space.

    Raises:
        UserError: if there is no run in the workdir, or it has no whole checkpoint yet.
    """
    advice = "set method.teacher to the workdir of a trained run, as in --config.method.teacher=runs/byol"
    if not workdir:
        raise UserError(f"this method learns from a teacher; {advice}")
    folder = pathlib.Path(workdir).resolve()
    try:
        config = ConfigDict(json.loads((folder / "config.json").read_text()))
    except (OSError, ValueError) as error:
        raise UserError(f"there is no run in {workdir!r}, whose config.json cannot be read; {advice}") from error
    step = checkpoint.latest_good(folder / "checkpoints")
    if step is None:
        raise UserError(f"the run in {workdir!r} has no whole checkpoint yet; train it first")
    network = networks.build(to_dict(config.network))
    convert = functools.partial(augment.convert, space=space, other=build_recipe(config).space)
    return Teacher(network, folder / "checkpoints" / str(step), convert)
