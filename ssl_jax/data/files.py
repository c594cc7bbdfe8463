"""Finds and reads image files. An error of the disk ends the run: no image is ever left out because of one."""

import errno
import os
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import NamedTuple, TypeVar

from ssl_jax.data import image
from ssl_jax.errors import UserError

Read = TypeVar("Read")
# Errors that may pass, as a network file system or a tired disk gives them.
NAMES = "EIO EAGAIN EINTR EBUSY ESTALE ETIMEDOUT ECONNRESET ECONNABORTED EHOSTUNREACH ENETUNREACH EREMOTEIO"
TRANSIENT = {getattr(errno, name) for name in NAMES.split() if hasattr(errno, name)}
CONTENT = (None, errno.EINVAL)  # of errors that Pillow raises for what a file holds
WAITS = (0.1, 0.5, 2.0, 8.0)  # seconds before each further try
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # of what a link points to
# Folders that systems put beside the user's files.
SYSTEM = ("lost+found", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "#recycle")

# Why files are left out.
HIDDEN, OTHER, WORKDIR = "hidden", "other kinds", "workdirs of runs"
BROKEN, REPEATED = "links to nothing", "links to folders that are read already"


class Found(NamedTuple):
    """The image files below a folder; all names are relative to it."""

    names: list[str]  # sorted, and so in the same order on every machine
    sizes: list[int]  # bytes
    folders: list[str]  # at any depth
    left_out: dict[str, list[str]]  # why -> names


def patiently(read: Callable[[str], Read], path: str) -> Read:
    """Reads from a path, again if an error may pass.

    Raises:
        UserError: if the path cannot be read.
    """
    for wait in (*WAITS, None):
        try:
            return read(path)
        except OSError as error:
            if error.errno in CONTENT:
                raise
            if wait is None or error.errno not in TRANSIENT:
                raise UserError(
                    f"{path} cannot be read ({error.strerror}); no image is left out for that: mend the disk or the "
                    "permissions, and the same command goes on"
                ) from error
            time.sleep(wait)
    raise AssertionError("unreachable")


def content(path: str) -> bytes:
    """Returns the content of a file, or raises as `patiently`."""
    return patiently(read_all, path)


def read_all(path: str) -> bytes:
    with open(path, "rb", buffering=0) as stream:  # twice as fast as `pathlib` for a small file
        return stream.readall()


def size_of(path: str, max_pixels: int | None) -> tuple[int, int]:
    """Returns the width and height of an image from the header of its file, or raises as `patiently` and Pillow."""

    def read(path):
        with open(path, "rb") as stream:
            return image.size_of(stream, max_pixels)

    return patiently(read, path)


def scan(folder: str | os.PathLike) -> Found:
    """Finds all image files below a folder, by their suffixes.

    Hidden files and the workdirs of runs are left out. Links to folders are followed after all else, and each folder is
    read once.

    Args:
        folder: where to look.

    Raises:
        UserError: if a folder cannot be read.
    """
    known, root = image.suffixes(), os.fspath(folder)
    files: list[tuple[str, int]] = []
    left_out: dict[str, list[str]] = defaultdict(list)
    folders: list[str] = [""]
    links: list[str] = []
    seen: dict[str, str] = {}  # the real path of each folder -> its name
    above = os.path.realpath(root) + os.sep
    while folders or links:
        at = folders.pop() if folders else links.pop(0)
        real = os.path.realpath(os.path.join(root, at))
        if real in seen or (at and above.startswith(real.rstrip(os.sep) + os.sep)):
            left_out[REPEATED].append(at)
            continue
        seen[real] = at
        inside = sorted(patiently(lambda path: list(os.scandir(path)), os.path.join(root, at)), key=lambda e: e.name)
        if at and is_workdir({entry.name for entry in inside}):
            left_out[WORKDIR].append(at)
            del seen[real]
            continue
        for entry in inside:
            name = os.path.join(at, entry.name)
            status = status_of(entry.path)
            if is_hidden(entry.name):
                left_out[HIDDEN].append(name)
            elif status is None:
                left_out[BROKEN].append(name)
            elif stat.S_ISDIR(status.st_mode):
                (links if entry.is_symlink() else folders).append(name)
            elif stat.S_ISREG(status.st_mode) and entry.name.lower().endswith(known):
                files.append((name, status.st_size))
            else:
                left_out[OTHER].append(name)
    files.sort()
    names, sizes = [name for name, _ in files], [size for _, size in files]
    return Found(names, sizes, list(seen.values())[1:], {why: sorted(left_out[why]) for why in left_out})


def status_of(path: str) -> os.stat_result | None:
    """Returns the status of what a path is or links to; None if there is nothing."""
    try:
        return os.stat(path)
    except OSError as error:
        return None if error.errno in ABSENT else patiently(os.stat, path)


def is_file(path: str) -> bool:
    """Returns whether there is a file, or raises as `patiently`."""
    status = status_of(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name in SYSTEM


def is_workdir(names: Collection[str]) -> bool:
    """Returns whether a folder with these entries is the workdir of a run."""
    return "config.json" in names and not {"checkpoints", "metrics.jsonl", "lock"}.isdisjoint(names)
