"""Weights of another run to start from: read by path, taken where they fit, and listed."""

import pathlib
import re
import types
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from ssl_jax import checkpoint
from ssl_jax.errors import UserError, suggest
from ssl_jax.method import Method, Variables
from ssl_jax.networks.positions import resample
from ssl_jax.numeric import path_name
from ssl_jax.words import number_of

ADVICE = "set init.from to the workdir of a run or to an .npz file of arrays named as in params/encoder/..."


class Taken(NamedTuple):
    """Which arrays of a network start from given weights, by their paths."""

    taken: list[str]
    resampled: list[str]  # positions, interpolated to another grid
    left: list[str]  # as initialised: no rule takes them
    unfit: dict[str, str]  # as initialised though a rule takes them -> why

    def __str__(self) -> str:
        """One line to print; a part of the network is named once if all its arrays are treated alike."""
        whence = ", ".join(sorted({part_of(name) for name in self.taken}))
        parts = [f"takes {number_of(len(self.taken), 'array')} of {whence}"]
        parts += [f"resamples {', '.join(self.resampled)} to the new grid"] if self.resampled else []
        others = {part_of(name) for name in (*self.taken, *self.resampled, *self.unfit)}
        left = dict.fromkeys(part_of(name) if part_of(name) not in others else name for name in self.left)
        left |= {f"{name} ({why})": None for name, why in self.unfit.items()}
        parts += [f"leaves as initialised {', '.join(left)}"] if left else []
        return "; ".join(parts)


def part_of(path: str) -> str:
    """Returns the part of a network that a path is in: "encoder", "projector", ..."""
    return path.split("/")[0]


def read_network(directory: pathlib.Path, step: int, method: type[Method]) -> Variables:
    """Reads the network that a method trains from a checkpoint, and nothing else.

    Args:
        directory: of the run's checkpoints.
        step: of the checkpoint.
        method: whose `variables` says where in parameters and state the network is.

    Returns:
        Nested dicts of host arrays.

    Raises:
        UserError: if the method trains no single network.
    """
    names = checkpoint.array_names(directory, step)
    where = traverse_util.unflatten_dict({name: name for name in names}, sep="/")
    fields = {"stats": {}} | where.get("state", {})
    if "target" in fields:
        fields["target"] = Variables(**{"stats": {}} | fields["target"])
    state = types.SimpleNamespace(**fields)
    paths = method.variables(None, where["params"], state)  # type: ignore[arg-type]  # it reads no field
    if "encoder" not in paths.params:
        raise UserError(f"the run of {directory.parent} trains no single encoder; choose another run")
    arrays = checkpoint.read_arrays(directory, step, jax.tree.leaves(paths))
    return jax.tree.map(lambda name: arrays[name], paths)


def fill(network: Variables, source: Variables, rules: Sequence[str]) -> tuple[Variables, Taken]:
    """Returns a network with weights of another where a rule takes them and they fit.

    Args:
        network: the variables of the first step, or their shapes.
        source: those of the other network; it may lack some and have others.
        rules: regular expressions, searched in paths such as "encoder/stem_conv1/kernel"; what one matches is taken.

    Returns:
        The network, with host arrays where weights were taken, and what was taken.

    Raises:
        UserError: if a rule matches nothing, or if too few arrays fit for the two networks to have one architecture.
    """
    theirs, result = flat(source), Taken([], [], [], {})
    names = sorted({name for _, name in flat(network)})
    for rule in rules:
        if not any(re.search(rule, name) for name in names):
            parts = {part_of(name) for name in names}
            raise UserError(f"init.take {rule!r} matches nothing in the network; {suggest(rule, parts)}")

    def choose(kind, path, ours):
        name = path_name(path)
        found = theirs.get((kind, name))
        if not any(re.search(rule, name) for rule in rules):
            result.left.append(name)
        elif found is None:
            result.unfit[name] = "not there"
        elif found.shape == ours.shape:
            result.taken.append(name)
            return np.asarray(found, ours.dtype)
        elif name.endswith("positions") and found.shape[1:] == ours.shape[1:]:
            result.resampled.append(name)
            side = round(ours.shape[0] ** 0.5)
            return np.asarray(resample(found, side, side), ours.dtype)
        else:
            result.unfit[name] = f"{list(found.shape)} there, {list(ours.shape)} here"
        return ours

    filled = Variables(
        *(
            jax.tree_util.tree_map_with_path(lambda path, ours, kind=kind: choose(kind, path, ours), tree)
            for kind, tree in network._asdict().items()
        )
    )
    check_enough(result)
    return filled, result


def check_enough(result: Taken) -> None:
    """Checks that most of what the rules take fits: a few arrays that fit by chance are no start.

    Raises:
        UserError: if not.
    """
    fit, unfit = len(result.taken) + len(result.resampled), result.unfit
    if fit <= len(unfit):
        name, why = next(iter(unfit.items()))
        raise UserError(
            f"init.from is a network of another architecture: {fit} of {fit + len(unfit)} arrays fit, {name} does not "
            f"({why}); set the network to that of init.from, or init.take to what is to be taken"
        )


def flat(variables: Variables) -> dict[tuple[str, str], Any]:
    """Returns the arrays of a network by kind ("params" or "stats") and path."""
    return {
        (kind, name): array
        for kind, tree in variables._asdict().items()
        for name, array in traverse_util.flatten_dict(tree, sep="/").items()
    }


def read_file(path: pathlib.Path) -> Variables:
    """Reads a network from an .npz file whose arrays are named `params/encoder/...` and `stats/encoder/...`.

    Raises:
        UserError: if it cannot be read or holds no such array.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            table = {name: file[name] for name in file.files if name.startswith(("params/", "stats/"))}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as .npz; {ADVICE}") from error
    tree: Mapping[str, Any] = traverse_util.unflatten_dict(table, sep="/")
    if "params" not in tree:
        raise UserError(f"{path} holds no array named params/...; {ADVICE}")
    return Variables(tree["params"], tree.get("stats", {}))
