"""The devices to plan for: those of TPU slices that are not there, or virtual CPU devices."""

import importlib.util
import os
import re
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

MOST = 4096  # virtual devices; more take minutes to make


class Topology(NamedTuple):
    """Devices, and the chips that they are on."""

    name: str
    chip: Chip | None  # None: of an unknown CPU, whose peaks nobody states
    devices: Sequence[jax.Device]
    chips: int
    slices: int  # or nodes, that the devices are in, in order and as many in each


class Name(NamedTuple):
    """A topology as it is written: [SLICESx]KIND:SHAPE."""

    slices: int
    kind: str
    shape: str  # of one slice
    devices: int  # of a CPU or GPU; 0: of a TPU, whose compiler says it


def virtual_devices(names: Sequence[str]) -> int:
    """Returns how many CPU devices topologies need: those of CPUs and GPUs.

    Raises:
        UserError: if one is not written as `read` wants it.
    """
    return max(read(name).devices for name in names)


def read(name: str) -> Name:
    """Returns what the name of a topology says, as in "v5e:16x16", "2xv5e:16x16", "h200:8" or "cpu:8".

    Raises:
        UserError: if it is written otherwise, or its kind is unknown.
    """
    head, _, shape = name.partition(":")
    number = re.match(r"(\d+)x", head)
    slices, kind = (int(number[1]), head[number.end() :]) if number else (1, head)
    if kind not in CHIPS and kind != "cpu":
        raise UserError(f"unknown chip in --topology={name}; {suggest(kind, [*CHIPS, 'cpu'])}")
    if not slices:
        raise UserError(f"--topology={name} has no slice; write {kind}:{shape}")
    chip = CHIPS.get(kind)
    if chip and slices > 1 and not chip.dcn:
        raise UserError(f"--topology={name}: slices of {kind} have no network between them; take one, or v4 or later")
    if chip and chip.is_tpu:
        if not in_pod(shape, chip.pod):
            most, example = ("x".join(map(str, one)) for one in (chip.pod, (4, 4, 4)[: len(chip.pod)]))
            raise UserError(f"--topology={name} is no part of a pod of {most} chips; write it as in {kind}:{example}")
        return Name(slices, kind, shape, 0)
    if not shape.isdecimal() or not int(shape):
        raise UserError(f"--topology={name} names no number of devices; write {kind}:8")
    if slices * int(shape) > MOST:
        raise UserError(f"--topology={name} has {slices * int(shape):,} devices; a CPU stands in for {MOST:,} at most")
    return Name(slices, kind, shape, slices * int(shape))


def in_pod(shape: str, pod: Sequence[int]) -> bool:
    """Returns whether a shape, such as "4x8", is that of a part of a pod of so many chips along each axis."""
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape):
        return False
    sizes = sorted(map(int, shape.split("x")))
    return len(sizes) == len(pod) and all(size <= most for size, most in zip(sizes, pod, strict=True))


def open_topology(name: str) -> Topology:
    """Returns a topology by its name, see `read`.

    Devices of a GPU are virtual CPU devices: XLA compiles for GPUs only where there is one.

    Raises:
        UserError: if there is no such topology, or libtpu, which compiles for TPUs, is not installed.
    """
    slices, kind, shape, count = read(name)
    if count:
        devices = jax.devices("cpu")
        if len(devices) < count:
            raise UserError(f"--topology={name} needs {count} virtual devices, but XLA_FLAGS sets {len(devices)}")
        return Topology(name, CHIPS.get(kind), devices[:count], count, slices)
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(f"--topology={name} needs the compiler of TPUs: pip install 'ssl_jax[plan]', or plan for cpu:8")
    for variable, value in WITHOUT_TPU.items():
        os.environ.setdefault(variable, value)
    from jax.experimental import topologies

    how: dict[str, int | str] = {"num_slices": slices} if slices > 1 else {}
    if kind == "v4":  # its two cores are one device, as JAX wants it, only on request
        how["chip_config_name"] = "megacore"
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=f"{kind}:{shape}", **how)
    except Exception as error:  # of several types, by version
        reason = str(error).splitlines()[0][:200]
        raise UserError(f"libtpu has no --topology={name}; take a slice of another shape ({reason})") from error
    chips = {(getattr(device, "slice_index", 0), *device.coords) for device in found.devices}  # type: ignore[attr-defined]
    return Topology(name, CHIPS[kind], found.devices, len(chips), slices)
