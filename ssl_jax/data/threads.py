"""Reads in threads, where these help."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

BLOCK = 8  # positions that are read at a time
SHORT = 1e-4  # seconds a position; threads that read faster wait for Python's lock longer than they save
GRACE = 0.05  # seconds more, for the first reads and for what else the process does


def in_threads(read: Callable[[Sequence[int]], Result], index: Sequence[int]) -> Iterator[Result]:
    """Reads blocks of positions in order: in this thread as long as that is fast, then in a pool of threads.

    Small images on a local disk are read twice as fast by one thread as by two.

    Args:
        read: reads a block.
        index: all positions.

    Returns:
        A generator of what each block gives.
    """
    blocks = [index[i : i + BLOCK] for i in range(0, len(index), BLOCK)]
    alone, spent = 0, 0.0
    while alone < len(blocks) and spent <= GRACE + SHORT * BLOCK * alone:
        began = time.monotonic()
        result = read(blocks[alone])
        spent, alone = spent + time.monotonic() - began, alone + 1
        yield result
    pool = ThreadPoolExecutor()
    try:
        yield from pool.map(read, blocks[alone:])
    finally:
        pool.shutdown(cancel_futures=True)
