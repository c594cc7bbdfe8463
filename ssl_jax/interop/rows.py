"""Rows of a table that names the arrays of our encoders in another library; a table is used in both directions."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from ssl_jax.errors import UserError

Arrays = Mapping[str, np.ndarray]
SHOWN = 5  # names in an error


class Row(NamedTuple):
    """Arrays of our encoder, and those of a library that hold the same numbers."""

    ours: tuple[str, ...]  # such as "params/stem_conv1/kernel"; none: theirs are constant and may be missing
    theirs: tuple[str, ...]
    to_theirs: Callable[..., tuple[np.ndarray, ...]]
    to_ours: Callable[..., tuple[np.ndarray, ...]]


def to_theirs(rows: Iterable[Row], arrays: Arrays) -> dict[str, np.ndarray]:
    """Returns arrays of our encoder under their names."""
    found: dict[str, np.ndarray] = {}
    for row in rows:
        found |= dict(zip(row.theirs, row.to_theirs(*(np.asarray(arrays[name]) for name in row.ours)), strict=True))
    return {name: np.asarray(array, order="C") for name, array in found.items()}


def to_ours(rows: Iterable[Row], arrays: Arrays) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns their arrays under our names, and the names of those that no row takes.

    Raises:
        UserError: if one is missing.
    """
    rows = list(rows)
    if missing := [name for row in rows if row.ours for name in row.theirs if name not in arrays]:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise UserError(f"the weights lack {', '.join(missing[:SHOWN])}{more}; take a file of the whole network")
    found: dict[str, np.ndarray] = {}
    for row in rows:
        if row.ours:
            given = (np.asarray(arrays[name], np.float32) for name in row.theirs)
            found |= dict(zip(row.ours, row.to_ours(*given), strict=True))
    taken = {name for row in rows for name in row.theirs}
    return found, [name for name in arrays if name not in taken]


def alike(ours: str, theirs: str, out: Callable = np.asarray, back: Callable = np.asarray) -> Row:
    """A row for one array."""
    return Row((ours,), (theirs,), lambda x: (out(x),), lambda x: (back(x),))


def constant(theirs: str, value: np.ndarray) -> Row:
    """A row for an array that we have not and a library expects."""
    return Row((), (theirs,), lambda: (value,), lambda x: ())


def convolution(ours: str, theirs: str) -> list[Row]:
    """A kernel [H, W, I, O] of ours is a weight [O, I, H, W]."""
    out, back = (lambda x: x.transpose(3, 2, 0, 1)), (lambda x: x.transpose(2, 3, 1, 0))
    return [alike(f"params/{ours}/kernel", f"{theirs}.weight", out, back)]


def dense(ours: str, theirs: str, bias: bool = True) -> list[Row]:
    """A kernel [I, O] of ours is a weight [O, I]."""
    rows = [alike(f"params/{ours}/kernel", f"{theirs}.weight", np.transpose, np.transpose)]
    return rows + [alike(f"params/{ours}/bias", f"{theirs}.bias")] * bias


def thirds(ours: str, theirs: tuple[str, str, str], bias: bool) -> list[Row]:
    """One map to queries, keys and values side by side is three of theirs."""

    def row(leaf, name, swap):
        return Row(
            (f"params/{ours}/{leaf}",),
            tuple(f"{one}.{name}" for one in theirs),
            lambda x: tuple(swap(part) for part in np.split(x, 3, axis=-1)),
            lambda *parts: (np.concatenate([swap(part) for part in parts], axis=-1),),
        )

    return [row("kernel", "weight", np.transpose)] + [row("bias", "bias", np.asarray)] * bias


def layer_norm(ours: str, theirs: str) -> list[Row]:
    return [alike(f"params/{ours}/scale", f"{theirs}.weight"), alike(f"params/{ours}/bias", f"{theirs}.bias")]


def batch_norm(ours: str, theirs: str, counter: bool = True) -> list[Row]:
    """Theirs may also count the batches of training, which nothing depends on."""
    stats = {"mean": "running_mean", "var": "running_var"}
    rows = [alike(f"stats/{ours}/{leaf}", f"{theirs}.{name}") for leaf, name in stats.items()]
    count = [constant(f"{theirs}.num_batches_tracked", np.zeros((), np.int64))] * counter
    return layer_norm(ours, theirs) + rows + count
