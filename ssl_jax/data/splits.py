"""Opens the training and the test images of a run."""

from collections.abc import Collection

import numpy as np

from ssl_jax.data.reading import WHOLE, Reading
from ssl_jax.data.source import Source, open_source
from ssl_jax.data.subset import Subset
from ssl_jax.errors import UserError, suggest

LABELS = ("auto", "required", "ignored")


def open_splits(
    name: str,
    labels: str,
    data_dir: str | None = None,
    fields: Collection[str] = (),
    context: int = 77,
    share: float = 0.0,
    reading: Reading = WHOLE,
) -> tuple[Source, Source | None]:
    """Opens the training images and, if they have captions, or labels that are not ignored, the test images.

    Args:
        name: the name of the source, see `open_source`.
        labels: "auto", "required" or "ignored".
        data_dir: the folder of prepared TFDS sets.
        fields: the fields that examples need beside `image` and `label`.
        context: tokens of a caption.
        share: of the training images to hold out as test images, if there are no others, see `hold_out`.
        reading: how images are read.

    Returns:
        The training images, and the test images, with labels or captions, or None.

    Raises:
        UserError: if the source cannot be opened, or required labels are missing.
    """
    if labels not in LABELS:
        raise UserError(f"evaluate.labels is {labels!r}; {suggest(labels, LABELS)}")
    source = open_source(name, "train", data_dir, fields, context, reading)
    assert source is not None  # every source has a training split
    captioned = "text" in fields
    if not (captioned or share) and (labels == "ignored" or (source.classes is None and labels == "auto")):
        return source, None
    canvas = reading.canvas(source.survey.largest)
    alike = reading._replace(wanted=canvas, least=canvas or 0)
    # White where transparent, or not, and of the same canvas: as in training.
    test = open_source(name, "test", data_dir, fields, context, alike)
    usable = source.classes is not None and test is not None and test.classes is not None
    if share:
        if usable or (captioned and test is not None):
            raise UserError(f"data.split is {share}, but {name} has a test split of its own; set data.split=0")
        source, test = hold_out(source, share)
        usable = True
    if labels == "required" and not usable:
        lack = "has no labels" if source.classes is None else "has no labelled test split"
        raise UserError(f"evaluate.labels is 'required', but {name} {lack}; set evaluate.labels=auto")
    return source, test if (usable and labels != "ignored") or captioned else None


def hold_out(source: Source, share: float) -> tuple[Subset, Subset]:
    """Splits a labelled source: the same share of each class, drawn with a fixed seed, is held out.

    A class of one image is only trained on, each other has at least one image on both sides.

    Args:
        source: the images.
        share: of the images that are held out, between 0 and 1.

    Returns:
        The images to train on, and those held out, both in the order of the source.

    Raises:
        UserError: if it has no labels.
    """
    if source.classes is None:
        raise UserError(
            f"data.split is {share}, but {source.name} has no labels, which evaluation needs; sort its images into "
            "CLASS/ folders, or set data.split=0"
        )
    labels = np.asarray(source.labels)
    bits = np.random.Philox(key=[0, 0]).random_raw(len(labels))  # the same for all seeds of a run, which then compare
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels[labels >= 0]):
        members = np.flatnonzero(labels == label)
        count = int(np.clip(round(share * len(members)), min(1, len(members) - 1), len(members) - 1))
        held[members[np.argsort(bits[members], kind="stable")[:count]]] = True
    if not held.any():
        raise UserError(f"each class of {source.name} has one image, none of which can be held out; set data.split=0")
    return Subset(source, np.flatnonzero(~held)), Subset(source, np.flatnonzero(held))
