"""The protocol of image sources, and how `data.source` names one."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ssl_jax.data.boxes import open_boxes
from ssl_jax.data.embedded import EmbeddedSource
from ssl_jax.data.field import Field
from ssl_jax.data.folder import open_folder
from ssl_jax.data.pairs import open_pairs
from ssl_jax.data.reading import WHOLE, Reading
from ssl_jax.data.segments import open_segments
from ssl_jax.data.survey import Survey
from ssl_jax.data.tfds import open_tfds
from ssl_jax.errors import UserError, suggest


class Source(Protocol):
    """A fixed list of images with random access, which is thread-safe and can be pickled."""

    name: str
    classes: tuple[str, ...] | None  # None: no labels

    @property
    def survey(self) -> Survey:
        """What was found when it was opened."""

    @property
    def version(self) -> str | None:
        """Of a published set."""

    @property
    def listing(self) -> Sequence[tuple[str, int]]:
        """The name and the bytes of each file; empty: the name of the source says which images it has."""

    @property
    def fields(self) -> Mapping[str, Field]:
        """The fields of an example by name; always `image` and `label`."""

    @property
    def labels(self) -> Sequence[int] | np.ndarray:
        """The labels of all images; -1 if unknown."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> dict[str, Any]:
        """Returns a value for each field: `image` uint8 [h, w, 3], `label` (-1 if unknown), `mask` uint8 [h, w], ..."""


FIELDS = {  # -> what it is called, and what to do if a source lacks it
    "mask": ("masks", "take a folder of png images whose alpha channel is the mask"),
    "segments": (
        "classes of pixels",
        "take segments:/path, a folder of images and of masks with the class of each pixel",
    ),
    "boxes": ("boxes", "take boxes:/path, a table of images and the boxes in them"),
    "text": ("captions", "take pairs:/path, a table of images and captions, or a TFDS set with captions"),
}


class Scheme(NamedTuple):
    """One kind of source."""

    # The function that opens a split; it takes name, split, data_dir, fields, context and reading, see `open_source`.
    open: Callable[[str, str, str | None, Collection[str], int, Reading], Source | None]
    fields: Collection[str]  # fields that it can have beside `image` and `label`


SCHEMES = {
    "embedded": Scheme(
        lambda name, split, _, fields, length, __: EmbeddedSource(name, split, fields, length), ("mask", "text")
    ),
    "folder": Scheme(lambda name, split, _, fields, __, reading: open_folder(name, split, fields, reading), ("mask",)),
    "boxes": Scheme(lambda name, split, _, fields, __, reading: open_boxes(name, split, fields, reading), ("boxes",)),
    "segments": Scheme(
        lambda name, split, _, fields, __, reading: open_segments(name, split, fields, reading), ("segments",)
    ),
    "pairs": Scheme(lambda name, split, _, *how: open_pairs(name, split, *how), ("text",)),
    "tfds": Scheme(open_tfds, ("text",)),
}


def has_field(text: str, field: str) -> bool:
    """Returns whether a source of this name may have a field beside `image` and `label`."""
    scheme = text.partition(":")[0]
    return scheme in SCHEMES and field in SCHEMES[scheme].fields


def open_source(
    text: str,
    split: str = "train",
    data_dir: str | None = None,
    fields: Collection[str] = (),
    context: int = 77,
    reading: Reading = WHOLE,
) -> Source | None:
    """Opens one split of an image source.

    Args:
        text: `embedded:fashion_mnist`, `folder:/path`, `pairs:/path`, `boxes:/path`, `segments:/path` or `tfds:NAME`,
            where NAME is any name that TensorFlow Datasets accepts (`cifar10`, `cifar10:3.0.2`,
            `imagenet_resized/32x32`).
        split: "train" or "test".
        data_dir: the folder of prepared TFDS sets, a local or `gs://` path; None: the default of TFDS.
        fields: the fields that examples need beside `image` and `label`. "mask" marks what matters in an image: the
            alpha channel in a folder, the pixels that are not black in the embedded set. "segments" is the class of
            each pixel, "boxes" what is where, "text" captions.
        context: tokens of a caption.
        reading: how images are read.

    Returns:
        The source, or None if there is no test split.

    Raises:
        UserError: if the source does not exist, is not prepared, has no readable image or lacks one of the fields.
    """
    scheme, colon, name = text.partition(":")
    if not (colon and name) or scheme not in SCHEMES:
        known = scheme in SCHEMES or not colon
        hint = (
            "write embedded:fashion_mnist, tfds:NAME, folder:/path, pairs:/path, boxes:/path or segments:/path"
            if known
            else suggest(scheme, SCHEMES)
        )
        raise UserError(f"unknown data source {text!r}; {hint}")
    for field in fields:
        if field not in FIELDS:
            raise UserError(f"unknown field {field!r} of {text}; {suggest(field, FIELDS)}")
        if field not in SCHEMES[scheme].fields:
            what, advice = FIELDS[field]
            raise UserError(f"{text} has no {what}; {advice}")
    return SCHEMES[scheme].open(name, split, data_dir, fields, context, reading)
