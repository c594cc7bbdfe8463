"""Decoded images in memory that the worker processes of a machine share."""

import os
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

Place = tuple[int, tuple[int, ...]]  # where an array starts in bytes, and its shape

AVAILABLE = hasattr(os, "memfd_create")  # on Linux


class SharedExamples:
    """A list of examples, each of uint8 arrays by name, in memory that has no file and ends with its process.

    The process that made it adds examples. A copy by pickle, in a worker process, reads those that were there when it
    was made, from the same memory.

    Args:
        length: the number of positions, all of which are empty.
    """

    def __init__(self, length: int):
        self.path, self.end, self.lock = "", 0, threading.Lock()
        self.places: list[dict[str, Place] | None] = [None] * length
        self.open(os.memfd_create("examples"))

    def open(self, descriptor: int) -> None:
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path or f"/proc/{os.getpid()}/fd/{self.descriptor}", "places": list(self.places)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path, self.places = state["path"], state["places"]
        self.open(os.open(self.path, os.O_RDONLY))

    def __getitem__(self, i: int) -> dict[str, np.ndarray] | None:
        """Returns the example at a position, None if there is none."""
        places = self.places[i]
        return None if places is None else {name: self.read(*place) for name, place in places.items()}

    def read(self, start: int, shape: tuple[int, ...]) -> np.ndarray:
        size = int(np.prod(shape))
        return np.frombuffer(os.pread(self.descriptor, size, start), np.uint8).reshape(shape)

    def add(self, i: int, example: dict[str, np.ndarray]) -> None:
        """Keeps an example at a position; a copy keeps nothing."""
        if not self.path:
            self.places[i] = {name: self.write(array) for name, array in example.items()}

    def write(self, array: np.ndarray) -> Place:
        with self.lock:
            start, self.end = self.end, self.end + array.nbytes
        os.pwrite(self.descriptor, array.tobytes(), start)
        return start, array.shape

    def select(self, index: Sequence[int]) -> None:
        """Drops the positions that are not in an index, and orders the others by it."""
        self.places = [self.places[i] for i in index]
