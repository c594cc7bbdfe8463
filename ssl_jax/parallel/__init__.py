"""Devices: starting several processes, the mesh over all devices, and the sharding of arrays."""

from ssl_jax.parallel.lookup import products
from ssl_jax.parallel.memory import keep_freed_memory
from ssl_jax.parallel.mesh import (
    AXIS,
    anywhere,
    concatenate,
    gather,
    local_rows,
    make_mesh,
    over,
    replicate,
    replicated,
    row_shardings,
    rows,
    scatter,
    start,
)
from ssl_jax.parallel.neighbors import neighbors

__all__ = [
    "AXIS",
    "anywhere",
    "concatenate",
    "gather",
    "keep_freed_memory",
    "local_rows",
    "make_mesh",
    "neighbors",
    "over",
    "products",
    "replicate",
    "replicated",
    "row_shardings",
    "rows",
    "scatter",
    "start",
]
