"""Batches as a pure function of (seed, step): which images, read and fitted to a canvas of fixed size."""

import os
from collections.abc import Callable, Iterator

import grain
import numpy as np
from absl import flags
from PIL import Image

from ssl_jax.data.source import Source
from ssl_jax.errors import UserError

Batch = dict[str, np.ndarray]


def fit(image: np.ndarray, canvas: int) -> tuple[np.ndarray, np.ndarray]:
    """Puts an image at the top left of a square canvas; one that is too large is first shrunk, its aspect kept.

    Args:
        image: uint8 [height, width, planes]: three colours and, if there is a fourth, a mask.
        canvas: side of the canvas in pixels.

    Returns:
        uint8 [canvas, canvas, planes], 0 outside the image, and the image's box, int32 [4]: top, left, height, width.
    """
    longer = max(image.shape[:2])
    if longer > canvas:
        height, width = (max(1, round(side * canvas / longer)) for side in image.shape[:2])

        def shrink(part):
            return np.asarray(Image.fromarray(part).resize((width, height), Image.Resampling.BICUBIC))

        # Each on its own: in an RGBA image Pillow lets no colour from outside the mask count.
        image = np.dstack([shrink(image[:, :, :3]), *map(shrink, np.moveaxis(image[:, :, 3:], 2, 0))])
    height, width = image.shape[:2]
    result = np.zeros((canvas, canvas, image.shape[2]), np.uint8)
    result[:height, :width] = image
    return result, np.array([0, 0, height, width], np.int32)


def read(source: Source, index: np.ndarray, canvas: int) -> Batch:
    """Reads examples into a batch.

    Args:
        source: where to read.
        index: int32 [B], positions in the source; -1 is padding and gives a black image without a label.
        canvas: side of the canvas in pixels.

    Returns:
        image uint8 [B, canvas, canvas, 3], box int32 [B, 4] (top, left, height, width), label int32 [B] (-1 where
        unknown), index int32 [B]; of a source with masks also mask uint8 [B, canvas, canvas], from 0 to 255.
    """
    image = np.zeros((len(index), canvas, canvas, source.planes), np.uint8)
    box = np.tile(np.array([0, 0, canvas, canvas], np.int32), (len(index), 1))
    label = np.full(len(index), -1, np.int32)
    for row, i in enumerate(index.tolist()):
        if i >= 0:
            pixels, label[row] = source[i]
            image[row], box[row] = fit(pixels, canvas)
    batch: Batch = {"image": image[..., :3], "box": box, "label": label, "index": index}
    if source.planes == 4:
        batch["mask"] = image[..., 3]
    return batch


def _stream(read_step: Callable[[int], Batch], start: int, stop: int, workers: int) -> Iterator[Batch]:
    # One element is one step, so neither threads nor worker processes can change what a step reads. Each thread
    # holds a whole batch, which bounds the memory: few threads, and in a worker process only one.
    threads = 1 if workers else min(8, os.cpu_count() or 1)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    steps = grain.MapDataset.range(start, stop).map(read_step).to_iter_dataset(options)
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain's workers read absl flags, which nobody parses in a notebook
        steps = steps.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    iterator = iter(steps)
    try:
        for _ in range(start, stop):  # exhausted iterators of Grain's would leak the workers' last batches
            batch = next(iterator)
            # A worker's batch lies in shared memory that has to be given back.
            yield {name: np.array(array) for name, array in batch.items()} if workers else batch
    finally:
        iterator.close()


def share(index: np.ndarray, process_index: int, process_count: int) -> np.ndarray:
    """Returns a process's contiguous slice of the positions of a global batch, int [B / process_count].

    Raises:
        UserError: the batch cannot be shared evenly.
    """
    if len(index) % process_count:
        raise UserError(f"A batch of {len(index)} cannot be shared evenly by {process_count} processes.")
    each = len(index) // process_count
    return index[process_index * each :][:each]


def batches(
    source: Source,
    order: Callable[[int], np.ndarray],
    canvas: int,
    start: int,
    stop: int,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """Streams this process's slices of the batches of the steps start, ..., stop - 1, read ahead of time.

    Args:
        source: where to read.
        order: from a step to the positions of its global batch, a multiple of process_count; see `data.order`.
        canvas: side of the canvas in pixels.
        start: the first step.
        stop: the step after the last.
        process_index: which contiguous slice of each global batch to read.
        process_count: number of slices.
        workers: worker processes; 0 reads in threads.

    Returns:
        A generator of `read`'s batches, each [batch_size / process_count, ...]; its `close()` ends the workers early.

    Raises:
        UserError: the batch cannot be shared evenly.
    """

    def read_step(step: int) -> Batch:
        return read(source, share(order(step), process_index, process_count), canvas)

    share(order(start), process_index, process_count)  # complains now, not in a thread
    return _stream(read_step, start, stop, workers)


def ordered(
    source: Source, batch_size: int, canvas: int, process_index: int = 0, process_count: int = 1, workers: int = 0
) -> Iterator[Batch]:
    """Streams every example once, in order, the last batch padded with index -1; arguments as in `batches`."""
    steps = -(-len(source) // batch_size)

    def read_step(step: int) -> Batch:
        index = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int32)
        index[index >= len(source)] = -1
        return read(source, share(index, process_index, process_count), canvas)

    return _stream(read_step, 0, steps, workers)


def spec(source, batch_size, canvas):
    """placeholder"""
    import jax

    S = jax.ShapeDtypeStruct
    d = {
        "image": S((batch_size, canvas, canvas, 3), np.uint8),
        "box": S((batch_size, 4), np.int32),
        "label": S((batch_size,), np.int32),
        "index": S((batch_size,), np.int32),
    }
    if source.planes == 4:
        d["mask"] = S((batch_size, canvas, canvas), np.uint8)
    return d
