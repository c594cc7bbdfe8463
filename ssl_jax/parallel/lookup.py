"""Dot products with rows of a memory that is split over the devices."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from ssl_jax.parallel.mesh import ROWS, traced_row_shards

TOGETHER = 8  # vectors at a time: the rows of a whole batch would take gigabytes with the numbers of a paper


def sampled_dot_products(vectors: jax.Array, memory: jax.Array, index: jax.Array) -> jax.Array:
    """Returns the dot products of vectors with rows of a memory.

    In a program made by `with_mesh`, each device multiplies its own rows for the whole batch, so that one number per
    row is communicated instead of the row.

    Args:
        vectors: [B, D].
        memory: [N, D], split by rows in such a program; not differentiated.
        index: int [B, K], the rows for each vector.

    Returns:
        Dot products [B, K].
    """
    memory = jax.lax.stop_gradient(memory)
    shards = traced_row_shards()
    if shards == 1 or any(len(x) % shards for x in (memory, vectors)):
        return read(vectors, memory, index)

    @functools.partial(jax.shard_map, in_specs=PartitionSpec(ROWS), out_specs=PartitionSpec(ROWS))
    def on_each(vectors, memory, index):
        vectors, index = (jax.lax.all_gather(array, ROWS, tiled=True) for array in (vectors, index))
        row = index - jax.lax.axis_index(ROWS) * len(memory)
        here = (row >= 0) & (row < len(memory))
        found = jnp.where(here, read(vectors, memory, jnp.where(here, row, 0)), 0)
        return jax.lax.psum_scatter(found, ROWS, tiled=True)

    return on_each(vectors, memory, index)


def read(vectors: jax.Array, memory: jax.Array, index: jax.Array) -> jax.Array:
    """Returns `sampled_dot_products` on one device, a few vectors at a time, in the backward pass too."""
    of_one = jax.checkpoint(lambda vector_and_rows: memory[vector_and_rows[1]] @ vector_and_rows[0])
    return jax.lax.map(of_one, (vectors, index), batch_size=TOGETHER)
