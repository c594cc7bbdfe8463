"""Files of named arrays: safetensors and .npz without a further library, PyTorch's with it."""

import json
import pathlib
import struct
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.interop.rows import Arrays

DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def read(path: pathlib.Path) -> Any:
    """Returns the arrays of a file by name, in nested dicts if it has such.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        if path.suffix == ".safetensors":
            return read_safetensors(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return dict(file)
        return read_torch(path)
    except UserError:
        raise
    except Exception as error:  # damaged files raise many types, in NumPy and in PyTorch
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} cannot be read as weights ({reason}); name a .pth, .safetensors or .npz file"
        ) from error


def read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a file of the format of https://huggingface.co/docs/safetensors, as views of its bytes."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    body = memoryview(data)[8 + length :]
    return {
        name: np.frombuffer(body[slice(*one["data_offsets"])], DTYPES[one["dtype"]]).reshape(one["shape"])
        for name, one in header.items()
        if name != "__metadata__"
    }


def write_safetensors(path: pathlib.Path, arrays: Arrays) -> None:
    """Writes arrays in the format of https://huggingface.co/docs/safetensors."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # without it Hugging Face refuses the file
    at = 0
    for name, array in arrays.items():
        header[name] = {"dtype": NAMES[array.dtype], "shape": array.shape, "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            stream.write(array.tobytes())


def read_torch(path: pathlib.Path) -> Any:
    """Reads a file that PyTorch saved, without running code from it."""
    import argparse

    try:
        import torch
    except ImportError:
        raise UserError(f"{path} needs PyTorch to be read: pip install torch, or save it as .safetensors") from None
    with torch.serialization.safe_globals([argparse.Namespace]):  # many checkpoints hold the command's options
        return as_arrays(torch.load(path, map_location="cpu", weights_only=True))


def as_arrays(tree: Any) -> Any:
    """Returns nested dicts of tensors as those of arrays; all else in them is left out."""
    if isinstance(tree, Mapping):
        found = {str(name): as_arrays(value) for name, value in tree.items()}
        return {name: value for name, value in found.items() if value is not None}
    return tree.float().numpy() if hasattr(tree, "numpy") else None
