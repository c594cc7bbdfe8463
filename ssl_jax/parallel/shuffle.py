"""Rows of a batch in another order."""

import functools

import jax
from jax.sharding import PartitionSpec

from ssl_jax.parallel.mesh import ROWS, traced_row_shards


def take_rows(x: jax.Array, order: jax.Array) -> jax.Array:
    """Returns `x[order]`.

    In a program made by `with_mesh`, each device receives all rows once and keeps those of its share. Left to itself,
    XLA adds up the rows of all devices on each of them, and what follows is then computed for the whole batch there.

    Args:
        x: [B, ...].
        order: int [B].
    """
    shards = traced_row_shards()
    if shards == 1 or len(x) % shards:
        return x[order]

    @functools.partial(jax.shard_map, in_specs=PartitionSpec(ROWS), out_specs=PartitionSpec(ROWS))
    def on_each(x, order):
        return jax.lax.all_gather(x, ROWS, tiled=True)[order]

    return on_each(x, order)
