"""Reads batches as a pure function of (seed, step), with each image fitted to a canvas of fixed size."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax
import numpy as np
from absl import flags

from ssl_jax.data.field import Field, Integers, fitted_size
from ssl_jax.data.source import Source

Batch = dict[str, np.ndarray]
ADDED: dict[str, Field] = {"box": Integers((4,)), "index": Integers()}  # added to the fields of the source
ALL = slice(None)


def spec(source: Source, batch_size: int, canvas: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes and dtypes of the arrays of `read`.

    If the whole set is on the device, it has the same arrays there, and the host sends only `index`.

    Args:
        source: the source to read from.
        batch_size: the number of examples.
        canvas: the side of the canvas in pixels.
    """
    fields = {**source.fields, **ADDED}
    return {
        name: jax.ShapeDtypeStruct((batch_size, *field.shape(canvas)), field.dtype) for name, field in fields.items()
    }


def read(source: Source, index: np.ndarray, canvas: int) -> Batch:
    """Reads examples into a batch.

    Args:
        source: the source to read from.
        index: int32 [B], positions in the source; -1 is padding and gives a black image without a label.
        canvas: the side of the canvas in pixels.

    Returns:
        A dict with an array [B, ...] for each field of the source, such as `image` uint8 [B, canvas, canvas, 3],
        `label` int32 [B] (-1 if unknown) and `mask` uint8 [B, canvas, canvas]; and with `index`, and `box` int32
        [B, 4], the top, left, height and width of each image on its canvas.
    """
    batch: Batch = {
        name: np.full((len(index), *field.shape(canvas)), field.padding, field.dtype)
        for name, field in source.fields.items()
    }
    box = np.tile(np.array([0, 0, canvas, canvas], np.int32), (len(index), 1))
    for row, i in enumerate(index.tolist()):
        if i >= 0:
            example = source[i]
            for name, field in source.fields.items():
                value = field.fit(example[name], canvas)
                place: Any = row, *map(slice, value.shape)
                batch[name][place] = value
            box[row, 2:] = fitted_size(example["image"], canvas)
    return batch | {"box": box, "index": index}


def batches(
    source: Source,
    order: Callable[[int], np.ndarray],
    canvas: int,
    start: int,
    stop: int,
    rows: np.ndarray | slice = ALL,
    workers: int = 0,
) -> Iterator[Batch]:
    """Streams the batches of the steps start, ..., stop - 1, read ahead of time.

    Args:
        source: the source to read from.
        order: maps a step to the positions of its global batch in the source, as an `Order` does.
        canvas: the side of the canvas in pixels.
        start: the first step.
        stop: the step after the last.
        rows: int [b], the rows of each global batch to read; None: all.
        workers: the number of worker processes; with 0, threads read.

    Returns:
        A generator of batches [b, ...] as `read` makes them; its `close()` stops the workers early.
    """
    return stream(lambda step: read(source, order(step)[rows], canvas), start, stop, workers)


def stream(read_step: Callable[[int], Batch], start: int, stop: int, workers: int) -> Iterator[Batch]:
    """Calls a function on each of the steps start, ..., stop - 1, ahead of time in threads or worker processes."""
    # One element is one step, so neither threads nor worker processes can change what a step reads. Each thread
    # holds a whole batch, which bounds the memory: few threads, and in a worker process only one.
    threads = 1 if workers else min(8, os.cpu_count() or 1)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    steps = grain.MapDataset.range(start, stop).map(read_step).to_iter_dataset(options)
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain's workers read absl flags, which are not parsed in a notebook
        steps = steps.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    iterator = iter(steps)
    try:
        for _ in range(start, stop):  # an exhausted Grain iterator would leak the last batches of its workers
            batch = next(iterator)
            # A batch of a worker is in shared memory, which must be released.
            yield {name: np.array(array) for name, array in batch.items()} if workers else batch
    finally:
        iterator.close()
