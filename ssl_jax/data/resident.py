"""Loads small sets whole, to keep them on the device, where the host sends only indices."""

import numpy as np

from ssl_jax.data.loader import Batch, read, spec
from ssl_jax.data.source import Source
from ssl_jax.data.threads import in_threads
from ssl_jax.numeric import size_in_bytes


def fits(source: Source, canvas: int, budget_bytes: int) -> bool:
    """Returns whether all examples, with images on canvases of this side (pixels), take at most `budget_bytes`."""
    return size_in_bytes(spec(source, len(source), canvas)) <= budget_bytes


def load_all(source: Source, canvas: int) -> Batch:
    """Reads a whole source of N examples into one batch, in which row i is example i; see `loader.read`."""
    parts = list(in_threads(lambda block: read(source, np.array(block, np.int32), canvas), range(len(source))))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
