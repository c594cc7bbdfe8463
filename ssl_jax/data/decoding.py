"""Decodes image files in parallel; content that cannot be decoded is told from a disk that fails."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from PIL import UnidentifiedImageError

from ssl_jax.data import files
from ssl_jax.data.image import TooLargeError, decode, decode_with_mask
from ssl_jax.data.reading import Reading
from ssl_jax.data.threads import in_threads
from ssl_jax.errors import UserError

UNREADABLE = "unreadable"
QUIET = 5.0  # seconds between two lines of progress


class UnreadableError(Exception):
    """The content of a file cannot be decoded; the text says what is wrong with it.

    Args:
        why: the reason under which such files are counted.
        text: what is wrong with this one.
    """

    def __init__(self, why: str, text: str):
        super().__init__(text)
        self.why = why

    def __reduce__(self):
        return type(self), (self.why, str(self))


def header_of(path: str, reading: Reading) -> tuple[int, int]:
    """Returns the width and height of an image file.

    Raises:
        UnreadableError: if its header is damaged, or the image is too large.
        UserError: if the disk fails.
    """
    with explained(reading):
        return files.size_of(path, reading.max_pixels)


def example_of(path: str, mask: bool, least: int | None, reading: Reading) -> dict[str, np.ndarray]:
    """Returns the image of a file, and its mask if it is asked for; see `image.decode`.

    Raises:
        UnreadableError: if it cannot be decoded.
        UserError: if the disk fails.
    """
    data = files.content(path)
    with explained(reading):
        if not mask:
            return {"image": decode(data, least, reading.max_pixels)}
        return dict(zip(("image", "mask"), decode_with_mask(data, least, reading.max_pixels), strict=True))


@contextlib.contextmanager
def explained(reading: Reading) -> Iterator[None]:
    """Turns errors of decoding into `UnreadableError`."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except TooLargeError as error:
        why = f"more than {reading.max_pixels:,} pixels, set data.max_pixels to take them"
        raise UnreadableError(why, str(error)) from error
    except UnidentifiedImageError as error:
        raise UnreadableError(UNREADABLE, "not an image") from error
    except Exception as error:  # Pillow raises many types for damaged files
        raise UnreadableError(UNREADABLE, str(error).split("\n")[0][:60] or type(error).__name__) from error


def attempt(function: Callable[[int], Any], index: Sequence[int], what: str) -> list[Any]:
    """Calls a function on each position in threads, and shows progress if this takes long.

    Args:
        function: what to call.
        index: the positions.
        what: is done, in words.

    Returns:
        The results; in place of one, the `UnreadableError` that was raised.
    """

    def call(i):
        try:
            return function(i)
        except UnreadableError as error:
            return error

    results = itertools.chain.from_iterable(in_threads(lambda block: list(map(call, block)), index))
    return list(shown(results, len(index), what))


def shown(results: Iterable[Any], total: int, what: str) -> Iterator[Any]:
    """Passes results on, with a line of progress now and then."""
    began = last = time.monotonic()
    for done, result in enumerate(results, 1):
        now = time.monotonic()
        if now - last > QUIET and jax.process_index() == 0:
            last, rate = now, done / (now - began)
            print(f"{what}: {done:,} of {total:,}, {rate:.0f} a second, {(total - done) / rate:.0f} s left", flush=True)
        yield result
