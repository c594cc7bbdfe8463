"""The memory allocator of the host."""

import ctypes
import importlib.util
import os
from importlib.metadata import entry_points

# Of glibc's malloc.h, for mallopt.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Stops glibc from returning freed memory to the system, if JAX runs on the CPU; otherwise does nothing.

    On a CPU, XLA allocates the buffers of a program at every step. By default glibc maps and unmaps large buffers each
    time, and the kernel clears every page, which can take longer than the layers that write them. Call it before the
    first use of a device: threads that already have an arena of their own are not affected.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt and cpu_only():
        mallopt(M_ARENA_MAX, 1)  # only the main arena grows without mappings
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def cpu_only() -> bool:
    """Returns whether JAX has no accelerator to use, without initialising the devices."""
    plugins = entry_points(group="jax_plugins") or importlib.util.find_spec("libtpu")
    return os.environ.get("JAX_PLATFORMS") == "cpu" or not plugins
