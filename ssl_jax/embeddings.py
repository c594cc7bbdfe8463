"""A file of embeddings and of what images they are of: .npz or .parquet, written piece by piece."""

import json
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ssl_jax.atomic import replacing
from ssl_jax.errors import UserError, suggest

EMBEDDING = "embedding"
ABOUT = "about"  # what the embeddings are, as JSON: an array of an .npz file, metadata of a .parquet file

Columns = Mapping[str, np.ndarray]  # a row per image, beside its embedding


class Format(NamedTuple):
    """How a kind of file is written and read."""

    write: Callable[[pathlib.Path, Columns, Iterable[np.ndarray], tuple[int, int], str], None]
    about: Callable[[pathlib.Path], str]
    read: Callable[[pathlib.Path], np.ndarray]


def write(
    path: pathlib.Path, columns: Columns, pieces: Iterable[np.ndarray], width: int, about: Mapping[str, Any]
) -> None:
    """Writes a file, whole or not at all; at any time only one piece of the embeddings is in memory.

    Args:
        path: the file, .npz or .parquet.
        columns: arrays with a row per image.
        pieces: the embeddings, float32 [B, width] each, N rows in all.
        width: their dimension.
        about: what they are, for `is_there`.
    """
    shape = len(next(iter(columns.values()))), width
    with replacing(path) as part:
        format_of(path).write(part, columns, pieces, shape, json.dumps(about))


def about(path: pathlib.Path) -> dict[str, Any]:
    """Returns what the embeddings of a file are, as it was given to `write`."""
    return json.loads(format_of(path).about(path))


def is_there(path: pathlib.Path, wanted: Mapping[str, Any]) -> bool:
    """Returns whether a file holds embeddings that are what is wanted."""
    try:
        return wanted.items() <= about(path).items()
    except Exception:  # there is no file, or it is of something else, which each library says in its way
        return False


def read(path: pathlib.Path) -> np.ndarray:
    """Returns the embeddings [N, D] of a file."""
    return format_of(path).read(path)


def format_of(path: pathlib.Path) -> Format:
    """Returns the format of a file by its name.

    Raises:
        UserError: if there is none of that name.
    """
    if path.suffix not in FORMATS:
        raise UserError(f"embeddings cannot be written as {path.name!r}; {suggest(path.suffix, FORMATS)}")
    return FORMATS[path.suffix]


def write_npz(path, columns, pieces, shape, about):
    with zipfile.ZipFile(path, "w") as file:
        for name, column in {**columns, ABOUT: np.array(about)}.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, column, allow_pickle=False)
        with file.open(f"{EMBEDDING}.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
            for piece in pieces:
                stream.write(np.ascontiguousarray(piece, "<f4").tobytes())


def read_npz(path, name):
    with np.load(path, allow_pickle=False) as file:
        return file[name]


def write_parquet(path, columns, pieces, shape, about):
    import pyarrow
    from pyarrow import parquet

    writer, start = None, 0
    for piece in pieces:
        stop = start + len(piece)
        arrays = {name: pyarrow.array(plain(column[start:stop])) for name, column in columns.items()}
        flat = pyarrow.array(piece.reshape(-1))
        arrays[EMBEDDING] = pyarrow.FixedSizeListArray.from_arrays(flat, shape[1])
        table = pyarrow.table(arrays).replace_schema_metadata({ABOUT: about})
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
        start = stop
    writer.close()


def plain(column: np.ndarray) -> list[Any]:
    """Returns the values of a column; bytes of file names that are no UTF-8, which Parquet refuses, escaped."""
    values = column.tolist()
    return (
        [os.fsencode(one).decode(errors="backslashreplace") for one in values] if column.dtype.kind == "U" else values
    )


def about_parquet(path):
    from pyarrow import parquet

    return parquet.read_schema(path).metadata[ABOUT.encode()].decode()


def read_parquet(path):
    from pyarrow import parquet

    column = parquet.read_table(path, columns=[EMBEDDING])[EMBEDDING].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)


FORMATS = {
    ".npz": Format(write_npz, lambda path: str(read_npz(path, ABOUT)), lambda path: read_npz(path, EMBEDDING)),
    ".parquet": Format(write_parquet, about_parquet, read_parquet),
}
