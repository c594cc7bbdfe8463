"""The mesh of devices, and batches that are split over it by rows.

A mesh always has four axes, most of them usually of size 1:

    dcn    slices or nodes, between which the network is slow; each has a whole copy of the state
    data   more copies of the state, within a slice
    fsdp   devices that share one copy of the state, see `layout`
    model  devices that share the columns of large heads

The rows of batches and memories are split over the first three, `ROWS`.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import (
    AbstractMesh,
    AxisType,
    Mesh,
    NamedSharding,
    PartitionSpec,
    get_abstract_mesh,
    use_abstract_mesh,
)

from ssl_jax.errors import UserError
from ssl_jax.fields import positive

AXES = ("dcn", "data", "fsdp", "model")
ROWS = ("dcn", "data", "fsdp")


@dataclasses.dataclass(frozen=True)
class MeshSizes:
    """The number of devices along each axis of the mesh; their product is the number of all devices."""

    dcn: Annotated[int, positive] = 1  # slices of a TPU, or nodes: groups of devices with a slower network between them
    data: Annotated[int, positive] | None = None  # copies of the state per slice; None: all devices left over
    fsdp: Annotated[int, positive] = 1  # devices that share a copy of the state
    model: Annotated[int, positive] = 1  # devices that share the columns of large heads

    def shape(self, devices: int) -> tuple[int, int, int, int]:
        """Returns the sizes of the `AXES` of a mesh over so many devices.

        Raises:
            UserError: if the product of the sizes is another number.
        """
        others = self.dcn * self.fsdp * self.model
        data = self.data or devices // others
        if data * others != devices:
            given = {axis: getattr(self, axis) for axis in AXES}
            words = ", ".join(f"mesh.{axis}={size}" for axis, size in given.items() if size not in (None, 1))
            raise UserError(
                f"a mesh with {words} does not fit {devices} devices; set sizes whose product is {devices}, where "
                "mesh.data, if unset, takes the devices left over"
            )
        return self.dcn, data, self.fsdp, self.model

    def row_shards(self, devices: int) -> int:
        """Returns into how many parts a mesh over so many devices splits rows; see `shape`."""
        return math.prod(self.shape(devices)[: len(ROWS)])


def make_mesh(devices: Sequence[jax.Device] | None = None, sizes: MeshSizes = MeshSizes()) -> Mesh:
    """Returns a mesh with the `AXES`.

    Args:
        devices: over which; None: all devices of all processes.
        sizes: of the axes; by default all devices are along `data`.

    Raises:
        UserError: if the product of the sizes is not the number of devices, or `dcn` not that of their slices.
    """
    devices = jax.devices() if devices is None else devices
    shape = sizes.shape(len(devices))
    types = (AxisType.Auto,) * len(AXES)
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices == 1 or (sizes.dcn == 1 and devices[0].platform != "tpu"):
        return jax.make_mesh(shape, AXES, axis_types=types, devices=devices)
    if slices != sizes.dcn:
        raise UserError(f"mesh.dcn is {sizes.dcn}, but the devices are in {slices} slices; set mesh.dcn={slices}")
    within, between = (1, *shape[1:]), (slices, 1, 1, 1)
    return Mesh(mesh_utils.create_hybrid_device_mesh(within, between, devices), AXES, axis_types=types)


def row_shards(mesh: Mesh | AbstractMesh) -> int:
    """Returns into how many parts rows are split."""
    return math.prod(mesh.shape[axis] for axis in ROWS)


def traced_row_shards() -> int:
    """Returns into how many parts a program made by `with_mesh` splits rows; elsewhere 1."""
    mesh = get_abstract_mesh()
    return row_shards(mesh) if set(ROWS) <= set(mesh.axis_names) else 1


def with_mesh(mesh: Mesh, program: Callable) -> Callable:
    """Returns the program with `mesh` as the abstract mesh of its trace, which functions in it can query."""

    @functools.wraps(program)
    def known(*args):
        with use_abstract_mesh(mesh.abstract_mesh):
            return program(*args)

    return known


def platform() -> str:
    """Returns the platform that a program is traced for: that of its mesh, see `with_mesh`, or else of this process."""
    device = get_abstract_mesh().abstract_device
    return device.platform if device else jax.default_backend()


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch, split by rows."""
    return NamedSharding(mesh, PartitionSpec(ROWS))


def local_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Returns the rows of a global batch that the devices of this process hold.

    Args:
        mesh: the mesh over all processes.
        batch_size: the size of the global batch, a multiple of `row_shards`.

    Returns:
        int [b], ascending: the order in which `scatter` expects them.
    """
    held = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in held]))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of parameters: every device has a copy."""
    return NamedSharding(mesh, PartitionSpec())


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
    split = PartitionSpec(ROWS)

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


def from_first(values: Any) -> np.ndarray:
    """Returns the first process's numbers or flags in every process."""
    return np.asarray(multihost_utils.broadcast_one_to_all(np.asarray(values)))


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
