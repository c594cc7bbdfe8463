"""The devices to plan for: those of a TPU slice that is not there, or virtual CPU devices."""

import importlib.util
import os
from collections.abc import Sequence
from typing import NamedTuple

import jax

from ssl_jax.errors import UserError, suggest
from ssl_jax.plan.chips import CHIPS, Chip

# What libtpu otherwise asks the machine for, which has no TPU.
WITHOUT_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # of whatever topology; unset, libtpu warns
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


class Topology(NamedTuple):
    """Devices, and the chips that they are on."""

    name: str
    chip: Chip | None  # None: of an unknown CPU, whose peaks nobody states
    devices: Sequence[jax.Device]
    chips: int


def virtual_devices(names: Sequence[str]) -> int:
    """Returns how many CPU devices topologies need: those of CPUs and GPUs.

    Raises:
        UserError: if one is not written as KIND:SHAPE, or its kind is unknown.
    """
    return max(split(name)[1] for name in names)


def split(name: str) -> tuple[str, int]:
    """Returns the kind of a topology, and its number of devices; 0 for a TPU, whose shape says it."""
    kind, _, shape = name.partition(":")
    if kind not in CHIPS and kind != "cpu":
        raise UserError(f"unknown chip in --topology={name}; {suggest(kind, [*CHIPS, 'cpu'])}")
    if kind in CHIPS and CHIPS[kind].is_tpu:
        if not shape:
            raise UserError(f"--topology={name} has no shape; write it as in v5e:4x4 or v4:2x2x4")
        return kind, 0
    if not shape.isdigit() or not int(shape):
        raise UserError(f"--topology={name} names no number of devices; write {kind}:8")
    return kind, int(shape)


def open_topology(name: str) -> Topology:
    """Returns a topology by its name, such as v5e:16x16, cpu:8 or h200:8.

    Devices of a GPU are virtual CPU devices: XLA compiles for GPUs only where there is one.

    Raises:
        UserError: if there is no such topology, or libtpu, which compiles for TPUs, is not installed.
    """
    kind, count = split(name)
    if count:
        devices = jax.devices("cpu")
        if len(devices) < count:
            raise UserError(f"--topology={name} needs {count} virtual devices, but XLA_FLAGS sets {len(devices)}")
        return Topology(name, CHIPS.get(kind), devices[:count], count)
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(f"--topology={name} needs the compiler of TPUs: pip install 'ssl_jax[plan]', or plan for cpu:8")
    for variable, value in WITHOUT_TPU.items():
        os.environ.setdefault(variable, value)
    from jax.experimental import topologies

    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    except Exception as error:  # of several types, by version
        raise UserError(f"libtpu knows no topology {name}: {str(error).splitlines()[0][:200]}") from error
    chips = {tuple(device.coords) for device in devices}  # type: ignore[attr-defined]
    return Topology(name, CHIPS[kind], devices, len(chips))
