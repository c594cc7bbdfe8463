"""Records the software and hardware of a run."""

import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
from typing import Any

import jax


def environment() -> dict[str, Any]:
    """Returns versions, devices, platform and, if known, the commit of the source, as JSON values."""
    devices = jax.devices()
    return {
        "ssl_jax": version("ssl_jax"),
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processes": jax.process_count(),
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "packages": {name: version(name) for name in dependencies()},
    }


def host_memory() -> int:
    """Returns the bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def device_memory() -> int | None:
    """Returns the bytes of memory of a device; None if it shares that of its host."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def dependencies() -> list[str]:
    """Returns the packages that the library requires, from its metadata; empty if it is not installed."""
    try:
        requirements = importlib.metadata.requires("ssl_jax") or []
    except importlib.metadata.PackageNotFoundError:
        return ["jax", "jaxlib", "flax", "optax"]
    needed = {re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in requirements if "extra ==" not in line}
    return sorted(needed | {"jaxlib"}, key=str.lower)


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """Returns the commit of the checkout of this file, followed by `+` if files differ from it; None without one."""
    root = pathlib.Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
