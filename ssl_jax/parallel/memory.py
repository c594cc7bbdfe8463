"""Memory of the host."""

import ctypes
import importlib.util
import os
from importlib.metadata import entry_points

# Of glibc's malloc.h, for mallopt.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Where the CPU computes, tells glibc not to return freed memory to the system; elsewhere it does nothing.

    XLA asks for the buffers of a program anew at each step of a CPU. By default glibc maps and unmaps such large ones
    each time, and the kernel clears every page again, which can take longer than the layers that write them. It must be
    called before the first use of a device: a thread that has memory of its own by then keeps to its ways.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt and cpu_only():
        mallopt(M_ARENA_MAX, 1)  # the one arena that grows without mappings
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def cpu_only() -> bool:
    """Whether JAX can find no accelerator, told without a look at the devices."""
    plugins = entry_points(group="jax_plugins") or importlib.util.find_spec("libtpu")
    return os.environ.get("JAX_PLATFORMS") == "cpu" or not plugins
