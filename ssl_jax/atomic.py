"""Files that are written whole or not at all."""

import contextlib
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the path of a file to write, of the same type, which then takes the place of `path`.

    Whoever reads `path` meanwhile, or after an error, finds what was there before.
    """
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    yield part
    part.replace(path)
