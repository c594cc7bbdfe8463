"""What an image source is, and how its name in a config becomes one."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ssl_jax.data.embedded import EmbeddedSource
from ssl_jax.data.folder import open_folder
from ssl_jax.data.tfds import open_tfds
from ssl_jax.errors import UserError, nearest

SCHEMES = ("embedded", "folder", "tfds")


class Source(Protocol):
    """A fixed list of images with random access; safe to read from several threads, and it can be pickled."""

    name: str
    classes: tuple[str, ...] | None  # None: no labels
    planes: int  # of an image: 3 colours, or 4 with a mask

    @property
    def labels(self) -> Sequence[int] | np.ndarray:
        """Of all images; -1 where unknown."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        """Returns the image, uint8 [height, width, planes], and its label, -1 where unknown."""


def open_source(text: str, split: str = "train", data_dir: str | None = None, masks: bool = False) -> Source | None:
    """Opens one split of an image source.

    Args:
        text: `embedded:fashion_mnist`, `folder:/path` or `tfds:NAME`, where NAME is whatever TensorFlow Datasets takes
            (`cifar10`, `cifar10:3.0.2`, `imagenet_resized/32x32`).
        split: "train" or "test".
        data_dir: where TFDS keeps its prepared sets, a local or `gs://` path; None: its own default.
        masks: whether images come with a mask of what matters in them: a folder's alpha channels, or what is not black
            in the embedded set.

    Returns:
        The source; None where it has no test split, as a folder without one.

    Raises:
        UserError: the source does not exist, is not prepared, or holds no readable image, or no masks.
    """
    scheme, colon, name = text.partition(":")
    if not (colon and name) or scheme not in SCHEMES:
        known = scheme in SCHEMES or not colon
        hint = "write embedded:fashion_mnist, tfds:NAME or folder:/path" if known else nearest(scheme, SCHEMES)
        raise UserError(f"Unknown data source {text!r}; {hint}")
    if scheme == "embedded":
        return EmbeddedSource(name, split, masks)
    if scheme == "folder":
        return open_folder(name, split, masks)
    if masks:
        raise UserError(f"{text} has no masks; take a folder of png images whose alpha channel is the mask")
    return open_tfds(name, split, data_dir)
