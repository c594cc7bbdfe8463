"""Loads small sets whole, to keep them on the device, where the host sends only indices."""

import jax
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


def pack(batch: Batch) -> Batch:
    """Returns a batch as it is kept on the device: without `index`, and with what has several axes as rows of one.

    To take some rows of an array uint8 [N, H, W, 3], a TPU would first copy all of it at every step, with the last axes
    padded to four times the size.
    """
    return {
        name: array.reshape(len(array), -1) if array.ndim > 2 else array
        for name, array in batch.items()
        if name != "index"
    }


def take(packed: dict[str, jax.Array], index: jax.Array, source: Source, canvas: int) -> dict[str, jax.Array]:
    """Returns the examples at some positions, int32 [B], of a whole source that was packed, as `loader.read` does."""
    shapes = spec(source, len(index), canvas)
    return {name: array[index].reshape(shapes[name].shape) for name, array in packed.items()} | {"index": index}
