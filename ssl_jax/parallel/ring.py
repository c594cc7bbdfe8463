"""Every row of one array meets every row of another, in tiles, round the devices over which both are split."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import PartitionSpec

from ssl_jax.parallel.mesh import ROWS, traced_row_shards
from ssl_jax.parallel.neighbors import into_tiles, pad

TILE = 2**22  # pairs at a time: 16 MiB of float32


class Side(NamedTuple):
    """One of the two sets of rows."""

    given: Any  # a tree of arrays [N, ...]
    found: Any  # likewise, results for each row so far


# From a tile of each side to the new results of both.
Visit = Callable[[Side, Side], tuple[Any, Any]]


def all_pairs(visit: Visit, left: Side, right: Side) -> tuple[Any, Any]:
    """Lets every row of one side meet every row of the other, in memory for a few of them.

    In a program made by `with_mesh`, each device keeps its rows of the larger side, and those of the smaller go round
    the devices with their results (as keys do in ring attention, Liu et al. 2023, arXiv:2310.01889).

    Args:
        visit: what happens where rows meet. Results must not depend on the order of the visits. Rows that fill up a
            tile are zeros in all arrays.
        left: N rows.
        right: M rows.

    Returns:
        The results for the rows of both sides.
    """
    shards = traced_row_shards()
    if shards == 1:
        return in_tiles(visit, left, right)
    if count(left) < count(right):
        return all_pairs(exchanged(visit), right, left)[::-1]
    padded = jax.tree.map(lambda x: pad(x, shards), (left, right))
    found = jax.shard_map(
        lambda host, guest: ring(visit, host, guest), in_specs=PartitionSpec(ROWS), out_specs=PartitionSpec(ROWS)
    )(*padded)
    return first(found[0], count(left)), first(found[1], count(right))


def ring(visit: Visit, host: Side, guest: Side) -> tuple[Any, Any]:
    """Returns `all_pairs` on one of the devices, for its rows of each side."""
    devices = jax.lax.axis_size(ROWS)
    onwards = [(device, (device + 1) % devices) for device in range(devices)]

    def turn(state, _):
        found, guest = state
        found, theirs = in_tiles(visit, host._replace(found=found), guest)
        return (found, jax.lax.ppermute(guest._replace(found=theirs), ROWS, onwards)), None

    (found, guest), _ = jax.lax.scan(turn, (host.found, guest), length=devices)
    return found, guest.found


def in_tiles(visit: Visit, left: Side, right: Side) -> tuple[Any, Any]:
    """Returns `all_pairs` where all rows are at hand: the smaller side meets tiles of the larger."""
    if count(left) > count(right):
        return in_tiles(exchanged(visit), right, left)[::-1]
    size = max(1, TILE // count(left))
    tiles = jax.tree.map(lambda x: into_tiles(x, size), right)
    found, theirs = jax.lax.scan(lambda found, tile: visit(left._replace(found=found), tile), left.found, tiles)
    return found, first(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), theirs), count(right))


def exchanged(visit: Visit) -> Visit:
    """Returns the visit for sides in the other order."""
    return lambda left, right: visit(right, left)[::-1]


def count(side: Side) -> int:
    """Returns the number of rows of a side."""
    return len(jax.tree.leaves(side)[0])


def first(tree: Any, rows: int) -> Any:
    """Returns the first rows of each array."""
    return jax.tree.map(lambda x: x[:rows], tree)
