"""The layout of a training state: which axes of its arrays are split over which axes of the mesh.

After `sharding.py` of big_vision (github.com/google-research/big_vision), which also decides by the paths and sizes of
arrays. Averages and moments of a parameter have its shape and its path at the end of theirs, so they lie as it does.
"""

import math
import re
from collections.abc import Container, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ssl_jax.numeric import path_name
from ssl_jax.parallel.mesh import ROWS
from ssl_jax.rules import matching

LEAST = 2**20  # bytes; splitting smaller arrays saves little memory and costs as many collectives


class Split(NamedTuple):
    """Splits one axis of the arrays that a pattern matches over axes of the mesh.

    An array stays as it is if no axis divides, or if the axis, of the array or of the mesh, is taken by a rule before.
    """

    pattern: str  # a regular expression, searched in the path of an array, such as "params/network/encoder/..."
    over: tuple[str, ...]  # axes of the mesh
    axis: int | None = None  # of the array; None: the largest that divides
    least: int = 0  # bytes of the arrays that are split


# The large matrices of heads, which may have as many columns as prototypes; then all that is large.
DEFAULTS = (
    Split(r"(projector|predictor)/(\w+/)?kernel$", ("model",), least=LEAST),
    Split("", ("fsdp",), least=LEAST),
)


def rows(path: str, axis: int = 0) -> Split:
    """Returns the rule for the memories at a path, whose rows are split as those of batches."""
    return Split(rf"^{re.escape(path)}(/|$)", ROWS, axis)


def layout(mesh: Mesh, shapes: Any, rules: Sequence[Split] = ()) -> Any:
    """Returns the sharding of each array of a state.

    Args:
        mesh: the devices.
        shapes: the state, or the shapes and types of its arrays.
        rules: come before the `DEFAULTS`.

    Returns:
        A tree of `NamedSharding`s like `shapes`.

    Raises:
        UserError: if the pattern of a rule matches no array.
    """
    paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]
    for rule in rules:
        matching(rule.pattern, paths, "the layout rule")

    def place(path: tuple, array: Any) -> NamedSharding:
        splits: dict[int, tuple[str, ...]] = {}
        for rule in (*rules, *DEFAULTS):
            taken = {name for names in splits.values() for name in names}
            if re.search(rule.pattern, path_name(path)) and not taken & set(rule.over):
                splits |= dict.fromkeys(split_axis(mesh, array, rule, splits), rule.over)
        return NamedSharding(mesh, PartitionSpec(*(splits.get(axis) for axis in range(max(splits, default=-1) + 1))))

    return jax.tree_util.tree_map_with_path(place, shapes)


def split_axis(mesh: Mesh, array: Any, rule: Split, taken: Container[int]) -> list[int]:
    """Returns the axis of an array that a rule splits, if there is one."""
    shards = math.prod(mesh.shape[name] for name in rule.over)
    if shards == 1 or array.size * array.dtype.itemsize < rule.least:
        return []
    axes = range(array.ndim) if rule.axis is None else [rule.axis]
    possible = [axis for axis in axes if axis < array.ndim and axis not in taken and array.shape[axis] % shards == 0]
    return sorted(possible, key=lambda axis: -array.shape[axis])[:1]
