"""Devices: starting several processes, the mesh over all devices, and which of them hold which part of an array."""

from ssl_jax.parallel.host_allocator import keep_freed_memory
from ssl_jax.parallel.layout import Split, layout, rows
from ssl_jax.parallel.lookup import sampled_dot_products
from ssl_jax.parallel.mesh import (
    ROWS,
    MeshSizes,
    any_process,
    batch_sharding,
    concatenate,
    from_first,
    gather,
    local_rows,
    make_mesh,
    platform,
    replicate,
    replicated,
    row_shards,
    scatter,
    traced_row_shards,
    wait,
    with_mesh,
)
from ssl_jax.parallel.neighbors import neighbors
from ssl_jax.parallel.pacing import paced
from ssl_jax.parallel.shuffle import take_rows
from ssl_jax.parallel.start import start

__all__ = [
    "ROWS",
    "MeshSizes",
    "Split",
    "any_process",
    "batch_sharding",
    "concatenate",
    "from_first",
    "gather",
    "keep_freed_memory",
    "layout",
    "local_rows",
    "make_mesh",
    "neighbors",
    "paced",
    "platform",
    "replicate",
    "replicated",
    "row_shards",
    "rows",
    "sampled_dot_products",
    "scatter",
    "start",
    "take_rows",
    "traced_row_shards",
    "wait",
    "with_mesh",
]
