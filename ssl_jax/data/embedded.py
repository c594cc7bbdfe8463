"""The image sets that ship with the package."""

import pathlib
from collections.abc import Collection
from typing import Any

import numpy as np

from ssl_jax.data import captions
from ssl_jax.data.field import Text, image_fields
from ssl_jax.data.survey import Survey
from ssl_jax.errors import UserError, suggest

HERE = pathlib.Path(__file__).parent
CAPTIONED = {"fashion_mnist_captions": "fashion_mnist"}  # -> the archive of its images


class EmbeddedSource:
    """A grey image set from an archive beside this file, held in memory.

    Args:
        name: an archive's name without suffix, such as `fashion_mnist`, or one of `CAPTIONED`.
        split: "train" or "test".
        fields: "mask" adds a mask of the pixels that are not black, "text" captions that are made by rules from classes
            and pixels, see `captions`.
        context: tokens of a caption.

    Raises:
        UserError: if there is no such archive, or it has no captions.
    """

    def __init__(self, name: str, split: str = "train", fields: Collection[str] = (), context: int = 77):
        names = [*(path.stem for path in HERE.glob("*.npz")), *CAPTIONED]
        if name not in names:
            raise UserError(f"there is no embedded set {name!r}; {suggest(name, names)}")
        if "text" in fields and name not in CAPTIONED:
            raise UserError(
                f"embedded:{name} has no captions; set data.source to embedded:{' or embedded:'.join(CAPTIONED)}, "
                "whose captions are made by rules from classes and pixels, or to pairs:/path"
            )
        with np.load(HERE / f"{CAPTIONED.get(name, name)}.npz") as arrays:
            self.images = arrays[f"{split}_images"]
            self.labels = arrays[f"{split}_labels"]
            self.classes = tuple(arrays["classes"].tolist())
        self.sentences = captions.SENTENCES[split]
        text = Text(len(self.sentences), context, captions.KINDS[split]) if "text" in fields else None
        self.name, self.fields = f"embedded:{name}", image_fields(fields, text)
        height, width = self.images.shape[1:]
        self.survey = Survey(sizes=np.array([[width, height]]), counts=np.bincount(self.labels))
        self.version = None
        self.listing: list[tuple[str, int]] = []

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict[str, Any]:
        grey = self.images[i]
        example: dict[str, Any] = {"image": np.repeat(grey[:, :, None], 3, axis=2), "label": int(self.labels[i])}
        if "mask" in self.fields:
            example["mask"] = np.where(grey > 0, 255, 0).astype(np.uint8)
        if "text" in self.fields:
            example["text"] = captions.describe(grey, int(self.labels[i]), self.sentences)
        return example
