"""Weights of another run to start from: read by path, taken where they fit, and listed."""

import pathlib
import re
import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from ssl_jax import checkpoint
from ssl_jax.errors import UserError
from ssl_jax.method import Method, Variables
from ssl_jax.networks.positions import resample

ADVICE = "set init.from to the workdir of a run or to an .npz file of arrays named as in network/encoder/..."


class Taken(NamedTuple):
    """What became of the arrays of a network that starts from weights, by their paths."""

    taken: list[str]
    resampled: list[str]  # positions, interpolated to another grid
    left: list[str]  # as initialised: no rule takes them, or the source lacks them or has another shape

    def __str__(self) -> str:
        """One line for the log."""
        parts = [f"{len(self.taken)} arrays taken"]
        parts += [f"resampled to the new grid: {', '.join(self.resampled)}"] if self.resampled else []
        parts += [f"left as initialised: {', '.join(self.left)}"] if self.left else []
        return "; ".join(parts)


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
    state = types.SimpleNamespace(**{"stats": {}} | where.get("state", {}))
    paths = method.variables(None, where["params"], state)  # type: ignore[arg-type]  # it reads no field
    if "encoder" not in paths.params:
        raise UserError(f"the run of {directory.parent} trains no single encoder; choose another run")
    arrays = checkpoint.read_arrays(directory, step, jax.tree.leaves(paths))
    return jax.tree.map(lambda name: arrays[name], paths)


def fill(network: Variables, source: Variables, rules: Sequence[str]) -> tuple[Variables, Taken]:
    """Returns a network with weights of another where a rule takes them and they fit.

    Args:
        network: the variables of the first step.
        source: those of the other network; it may lack some and have others.
        rules: regular expressions, searched in paths such as "encoder/stem_conv1/kernel"; what one matches is taken.

    Raises:
        UserError: if nothing is taken.
    """
    theirs, result = flat(source), Taken([], [], [])

    def choose(kind, path, ours):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        found = theirs.get((kind, name))
        if found is None or not any(re.search(rule, name) for rule in rules):
            result.left.append(name)
        elif found.shape == ours.shape:
            result.taken.append(name)
            return np.asarray(found, ours.dtype)
        elif name.endswith("positions"):
            side = round(ours.shape[0] ** 0.5)
            result.resampled.append(name)
            return np.asarray(resample(found, side, side), ours.dtype)
        else:
            result.left.append(f"{name} ({list(found.shape)} there, {list(ours.shape)} here)")
        return ours

    filled = Variables(
        *(
            jax.tree_util.tree_map_with_path(lambda path, ours, kind=kind: choose(kind, path, ours), tree)
            for kind, tree in network._asdict().items()
        )
    )
    if not result.taken:
        raise UserError(f"no array of init.from fits this network ({result.left[0]} is the first); {ADVICE}")
    return filled, result


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
        with np.load(path, allow_pickle=False) as file:
            table = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as .npz ({error}); {ADVICE}") from error
    tree: Mapping[str, Any] = traverse_util.unflatten_dict(table, sep="/")
    if "params" not in tree:
        raise UserError(f"{path} holds no array named params/...; {ADVICE}")
    return Variables(tree["params"], tree.get("stats", {}))
