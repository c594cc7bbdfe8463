"""The mesh: one axis over all devices, along which batches are split by rows; parameters are replicated."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, use_abstract_mesh

AXIS = "data"


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns a mesh over the given devices; None: all devices of all processes."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def with_mesh(mesh: Mesh, program: Callable) -> Callable:
    """Returns the program with `mesh` as the abstract mesh of its trace, which functions in it can query."""

    @functools.wraps(program)
    def known(*args):
        with use_abstract_mesh(mesh.abstract_mesh):
            return program(*args)

    return known


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch, split by rows."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def local_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Returns the rows of a global batch that the devices of this process hold.

    Args:
        mesh: the mesh over all processes.
        batch_size: the size of the global batch, a multiple of the number of devices.

    Returns:
        int [b], ascending: the order in which `scatter` expects them.
    """
    held = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in held]))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of parameters: every device has a copy."""
    return NamedSharding(mesh, PartitionSpec())


def row_shardings(mesh: Mesh, tree: Any, axis: int = 0) -> Any:
    """Returns shardings that split an axis of every array over the devices, or replicate it if it does not divide."""

    def place(array):
        split = array.ndim > axis and array.shape[axis] % mesh.size == 0
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS)) if split else replicated(mesh)

    return jax.tree.map(place, tree)


def scatter(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Puts this process's `local_rows` of each array of a batch onto its devices: global arrays [B, ...]."""
    return {name: jax.make_array_from_process_local_data(batch_sharding(mesh), array) for name, array in batch.items()}


def concatenate(mesh: Mesh, batches: Sequence[Any]) -> Any:
    """Concatenates batches [B, ...] that are split by rows, on each device separately, without communication.

    Args:
        mesh: the devices.
        batches: trees of arrays.

    Returns:
        A tree of arrays split by rows: the rows of the first device in all batches, then those of the second, ...
    """
    split = PartitionSpec(AXIS)

    def on_each(*shares):
        return jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *shares)

    return jax.jit(jax.shard_map(on_each, mesh=mesh, in_specs=split, out_specs=split))(*batches)


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Puts host arrays, which must be the same in every process, onto every device."""
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(replicated(mesh), x, x.shape), tree)


def gather(tree: Any) -> Any:
    """Returns global arrays as whole host arrays in every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def wait() -> None:
    """Waits until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("wait")


def any_process(mesh: Mesh, flag: bool) -> Any:
    """Returns, in every process, whether the flag is set in any process: a bool, or an array that may arrive later."""
    if jax.process_count() == 1:
        return flag
    flags = scatter(mesh, {"flag": np.full(len(mesh.local_devices), flag)})
    return any_of(mesh)(flags["flag"])


@functools.cache
def any_of(mesh: Mesh):
    """Returns the compiled program of `any_process`, which runs at every step."""
    return jax.jit(jnp.any, out_shardings=replicated(mesh))
