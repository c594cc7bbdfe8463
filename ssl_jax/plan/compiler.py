"""Compiles a lowered step as far as a plan needs it, and reads how much memory its arrays take."""

import concurrent.futures
import pathlib
import re
import tempfile
import time
from typing import NamedTuple

import jax

UNITS = {"": 1, **{unit: 2**power for unit, power in zip("KMGTP", range(10, 60, 10), strict=True)}}
# How XLA says what a program would need, in its newest and older versions, and with what the runtime keeps for itself.
NEEDS = (
    r"required for [\w ]+\(([\d.]+)([KMGTP]?)\) exceeds",
    r"Used ([\d.]+)([KMGTP]?) of",
    r"Total hbm usage >= ([\d.]+)([KMGTP]?)",
)
ALLOCATION = re.compile(r"^allocation \d+: size (\d+),(?: color (\d+),)? (.*):$", re.MULTILINE)


class Memory(NamedTuple):
    """What a program holds in the memory of a device, in bytes."""

    arguments: int
    results: int  # that take no argument's place
    temporaries: int
    code: int = 0

    @property
    def peak(self) -> int:
        """All of it."""
        return sum(self)


def compile_whole(lowered: jax.stages.Lowered) -> tuple[str, Memory]:
    """Returns a program as text, and its memory."""
    return read(lowered.compile())


def compile_without_code(lowered: jax.stages.Lowered) -> tuple[str, Memory]:
    """Returns what `compile_whole` does, for a TPU, as soon as XLA has chosen operations and memory.

    Machine code, which XLA generates then, takes it nine tenths of the time and changes no figure but its own size. XLA
    cannot be stopped: it goes on in a thread, so the process should end.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        options: dict[str, str | bool] = {"xla_dump_to": name, "xla_dump_hlo_as_text": True}
        compiling = concurrent.futures.ThreadPoolExecutor(1).submit(lowered.compile, options)
        # XLA writes files one after the other: when the last is there, the others are whole.
        while not (found := list(pathlib.Path(name).glob("*.after_optimizations_after_buffer_assignment.txt"))):
            if compiling.done():
                return read(compiling.result())
            time.sleep(0.1)
        stem = str(found[0]).removesuffix("_after_buffer_assignment.txt")
        text, buffers = (pathlib.Path(stem + end).read_text() for end in (".txt", "-buffer-assignment.txt"))
    return text, allocated(buffers)


def read(program: jax.stages.Compiled) -> tuple[str, Memory]:
    """Returns a compiled program as text, and its memory."""
    found = program.memory_analysis()
    results = found.output_size_in_bytes - found.alias_size_in_bytes
    return program.as_text(), Memory(
        found.argument_size_in_bytes, results, found.temp_size_in_bytes, found.generated_code_size_in_bytes
    )


def allocated(buffers: str) -> Memory:
    """Returns the memory of a program by XLA's list of its buffers, those of the chip's main memory."""
    sizes = {"parameter": 0, "live-out": 0, "other": 0}
    for size, color, what in ALLOCATION.findall(buffers):
        if not int(color or 0):
            sizes[next((kind for kind in sizes if kind in what), "other")] += int(size)
    return Memory(sizes["parameter"], sizes["live-out"], sizes["other"])


def used(message: str) -> int:
    """Returns the memory that a program would need, by the error of a compiler that refused it; 0 if it is not said."""
    sizes = [found for form in NEEDS for found in re.findall(form, message)]
    return int(max((float(size) * UNITS[unit] for size, unit in sizes), default=0))
