"""TensorFlow Datasets prepared as array_record, read without TensorFlow."""

import difflib
import functools
import os
import re
from typing import Any

from ssl_jax.data.field import image_fields
from ssl_jax.data.image import decode
from ssl_jax.errors import UserError

TEST_SPLITS = ("test", "validation", "val")


class TfdsSource:
    """One split of a prepared set with random access.

    Args:
        name: what messages call the source.
        builder: a `tfds.core.DatasetBuilder`, its set prepared.
        split: one of its splits.

    Raises:
        UserError: if the set has no images, or was prepared in a format without random access.
    """

    def __init__(self, name: str, builder: Any, split: str):
        import tensorflow_datasets as tfds

        features = builder.info.features
        image, label = feature_of(features, tfds.features.Image), feature_of(features, tfds.features.ClassLabel)
        if image is None:
            raise UserError(f"{name} has no images; its features are {', '.join(features)}")
        self.name, self.fields, self.image, self.label = name, image_fields(), image, label
        try:  # the bytes stay encoded, so that the pictures of all sources are decoded by the same code
            self.examples = builder.as_data_source(split, decoders={image: tfds.decode.SkipDecoding()})
        except NotImplementedError:
            raise UserError(
                f"{name} is prepared in {builder.data_dir} in a format without random access; delete it and prepare "
                "it again with download_and_prepare(file_format='array_record')"
            ) from None
        self.classes = tuple(features[label].names) if label and self[0]["label"] >= 0 else None

    def __len__(self) -> int:
        return len(self.examples)

    @functools.cached_property
    def labels(self) -> list[int]:
        """The labels of all examples, which are all read at the first call."""
        return [int(example[self.label]) if self.label else -1 for example in self.examples]

    def __getitem__(self, i: int) -> dict[str, Any]:
        example = self.examples[i]
        label = int(example[self.label]) if self.label else -1
        return {"image": decode(example[self.image]), "label": label}


def open_tfds(name: str, split: str, data_dir: str | None) -> TfdsSource | None:
    """Opens a prepared set from its files; arguments and errors as in `source.open_source`.

    The test split is the first labelled one of `test` and `validation`, or else the first.
    """
    import tensorflow_datasets as tfds  # takes seconds, so only where it is used

    data_dir = data_dir and os.path.expanduser(data_dir)
    try:
        builder = tfds.core.read_only_builder.builder_from_files(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        raise UserError(missing(name, data_dir)) from None
    except (ImportError, ValueError) as error:
        raise UserError(
            f"tfds:{name} does not open in {data_dir or 'the default folder'}: {first_line(error)}"
        ) from None
    splits = [s for s in (TEST_SPLITS if split == "test" else ("train",)) if s in builder.info.splits]
    if split == "train" and not splits:
        raise UserError(f"tfds:{name} has no training split, only {', '.join(builder.info.splits)}")
    sources = [TfdsSource(f"tfds:{name}", builder, s) for s in splits]
    return next((source for source in sources if source.classes), sources[0] if sources else None)


def feature_of(features: Any, kind: type) -> str | None:
    """Returns the feature of a kind that has the usual name, else the first of that kind."""
    keys = [key for key, feature in features.items() if type(feature) is kind]
    return next((key for key in keys if key in ("image", "label")), keys[0] if keys else None)


def missing(name: str, data_dir: str | None) -> str:
    """Returns why a set was not found: misspelt, no such configuration, or not prepared, and then how to prepare it."""
    import tensorflow_datasets as tfds

    stem, known = re.split("[/:]", name)[0], tfds.list_builders(with_community_datasets=False)
    where = data_dir or "the default folder"
    if stem not in known:
        near = difflib.get_close_matches(stem, known, n=1, cutoff=0)[0]
        return f"there is no TFDS set {stem!r}, nor one of yours in {where}; did you mean {near!r}?"
    try:
        tfds.builder(name, data_dir=data_dir)
    except (AssertionError, ValueError) as error:
        return f"TFDS cannot build {name!r}: {first_line(error)}"
    except ImportError:
        pass  # it needs TensorFlow, which the advice mentions
    argument = f", data_dir={data_dir!r}" if data_dir else ""
    return (
        f"tfds:{name} is not prepared in {where}; prepare it once with\n"
        f'python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder({name!r}{argument}).download_and_prepare(file_format='array_record')\"\n"
        "(most sets need `pip install tensorflow` for that step; reading them does not)"
    )


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message."""
    return str(error).strip().splitlines()[0]
