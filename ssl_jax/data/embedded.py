"""The image sets that ship with the package."""

import pathlib
from collections.abc import Collection
from typing import Any

import numpy as np

from ssl_jax.data.field import image_fields
from ssl_jax.errors import UserError, suggest

HERE = pathlib.Path(__file__).parent


class EmbeddedSource:
    """A grey image set from an archive beside this file, held in memory.

    Args:
        name: an archive's name without suffix, such as `fashion_mnist`.
        split: "train" or "test".
        fields: ("mask",) adds a mask of the pixels that are not black.

    Raises:
        UserError: if there is no such archive.
    """

    def __init__(self, name: str, split: str = "train", fields: Collection[str] = ()):
        names = [path.stem for path in HERE.glob("*.npz")]
        if name not in names:
            raise UserError(f"there is no embedded set {name!r}; {suggest(name, names)}")
        with np.load(HERE / f"{name}.npz") as arrays:
            self.images = arrays[f"{split}_images"]
            self.labels = arrays[f"{split}_labels"]
            self.classes = tuple(arrays["classes"].tolist())
        self.name, self.fields = f"embedded:{name}", image_fields(fields)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict[str, Any]:
        grey = self.images[i]
        example: dict[str, Any] = {"image": np.repeat(grey[:, :, None], 3, axis=2), "label": int(self.labels[i])}
        if "mask" in self.fields:
            example["mask"] = np.where(grey > 0, 255, 0).astype(np.uint8)
        return example
