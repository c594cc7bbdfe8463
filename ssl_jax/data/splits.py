"""Opens the training and the test images of a run."""

from collections.abc import Collection

from ssl_jax.data.source import Source, open_source
from ssl_jax.errors import UserError, suggest

LABELS = ("auto", "required", "ignored")


def open_splits(
    name: str, labels: str, data_dir: str | None = None, fields: Collection[str] = (), context: int = 77
) -> tuple[Source, Source | None]:
    """Opens the training images and, if they have captions, or labels that are not ignored, the test images.

    Args:
        name: the name of the source, see `open_source`.
        labels: "auto", "required" or "ignored".
        data_dir: the folder of prepared TFDS sets.
        fields: the fields that examples need beside `image` and `label`.
        context: tokens of a caption.

    Returns:
        The training images, and the test images, with labels or captions, or None.

    Raises:
        UserError: if the source cannot be opened, or required labels are missing.
    """
    if labels not in LABELS:
        raise UserError(f"evaluate.labels is {labels!r}; {suggest(labels, LABELS)}")
    source = open_source(name, "train", data_dir, fields, context)
    assert source is not None  # every source has a training split
    captioned = "text" in fields
    if not captioned and (labels == "ignored" or (source.classes is None and labels == "auto")):
        return source, None
    test = open_source(name, "test", data_dir, fields, context)  # white where transparent, or not: as in training
    usable = source.classes is not None and test is not None and test.classes is not None
    if labels == "required" and not usable:
        lack = "has no labels" if source.classes is None else "has no labelled test split"
        raise UserError(f"evaluate.labels is 'required', but {name} {lack}; set evaluate.labels=auto")
    return source, test if usable or captioned else None
