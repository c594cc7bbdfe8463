"""Files that are written whole or not at all."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the path of a file to write, of the same type, which then takes the place of `path`.

    Whoever reads `path` meanwhile, or after an error or a crash of the machine, finds what was there before.
    """
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    yield part
    with part.open() as file:
        os.fsync(file.fileno())
    part.replace(path)
