"""Reads TensorFlow Datasets that are prepared as array_record, without TensorFlow."""

import difflib
import functools
import operator
import os
import re
from collections.abc import Collection
from typing import Any

import numpy as np

from ssl_jax.data.field import Text, image_fields
from ssl_jax.data.image import decode
from ssl_jax.data.reading import WHOLE, Reading
from ssl_jax.data.survey import Survey
from ssl_jax.errors import UserError

TEST_SPLITS = ("test", "validation", "val")
CAPTIONS = 8  # most of an image; further ones are not used


class TfdsSource:
    """One split of a prepared set with random access.

    Args:
        name: the name of the source in messages.
        builder: a `tfds.core.DatasetBuilder` of a prepared set.
        split: one of its splits.
        context: tokens of a caption; None: captions are left out.
        reading: how images are read.

    Raises:
        UserError: if the set has no images or no captions, or was prepared in a format without random access.
    """

    def __init__(self, name: str, builder: Any, split: str, context: int | None = None, reading: Reading = WHOLE):
        import tensorflow_datasets as tfds

        features = builder.info.features
        image, label = feature_of(features, tfds.features.Image), feature_of(features, tfds.features.ClassLabel)
        if image is None:
            raise UserError(
                f"{name} has no images, its features are {', '.join(features)}; set data.source to a set of images"
            )
        self.name, self.image, self.label = name, image, label
        self.version = str(builder.version)
        self.listing: list[tuple[str, int]] = []
        height, width = features[image].shape[:2]
        self.survey = Survey(sizes=np.array([[width, height]]) if height and width else None)
        self.canvas = reading.canvas(self.survey.largest)
        self.text = None if context is None else caption_of(features)
        if context is not None and self.text is None:
            raise UserError(
                f"{name} has no captions, its features are {', '.join(features)}; set data.source to a set with texts"
            )
        self.fields = image_fields(text=None if context is None else Text(CAPTIONS, context))
        try:  # bytes stay encoded, so that images of all sources are decoded by the same code
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
        """The labels of all examples; the first call reads the whole set."""
        return [int(example[self.label]) if self.label else -1 for example in self.examples]

    def __getitem__(self, i: int) -> dict[str, Any]:
        example = self.examples[i]
        label = int(example[self.label]) if self.label else -1
        found = {"image": decode(example[self.image], self.canvas), "label": label}
        return found | {"text": texts(functools.reduce(operator.getitem, self.text, example))} if self.text else found


def open_tfds(
    name: str,
    split: str,
    data_dir: str | None,
    fields: Collection[str] = (),
    context: int = 77,
    reading: Reading = WHOLE,
) -> TfdsSource | None:
    """Opens a prepared set from its files; see `source.open_source` for arguments and errors.

    The test split is the first of `test` and `validation` that has labels, or else the first that exists.
    """
    import tensorflow_datasets as tfds  # the import takes seconds

    data_dir = data_dir and os.path.expanduser(data_dir)
    try:
        builder = tfds.core.read_only_builder.builder_from_files(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        raise UserError(missing(name, data_dir)) from None
    except (ImportError, ValueError) as error:
        raise UserError(
            f"tfds:{name} cannot be opened in {data_dir or 'the default folder'}: {first_line(error)}"
        ) from None
    except Exception as error:  # of many types, by what reads the remote folder
        if "://" not in str(data_dir):
            raise
        raise UserError(
            f"{data_dir} cannot be reached ({first_line(error)}); check data.dir, the network and your credentials"
        ) from error
    splits = [s for s in (TEST_SPLITS if split == "test" else ("train",)) if s in builder.info.splits]
    if split == "train" and not splits:
        raise UserError(f"tfds:{name} has no training split, only {', '.join(builder.info.splits)}")
    wanted = context if "text" in fields else None
    sources = [TfdsSource(f"tfds:{name}", builder, s, wanted, reading) for s in splits]
    return next((source for source in sources if source.classes), sources[0] if sources else None)


def feature_of(features: Any, kind: type) -> str | None:
    """Returns the name of the feature of a type: the usual name if it exists, else the first."""
    keys = [key for key, feature in features.items() if type(feature) is kind]
    return next((key for key in keys if key in ("image", "label")), keys[0] if keys else None)


def caption_of(features: Any) -> tuple[str, ...] | None:
    """Returns the path in an example of its captions: texts named caption, captions or text, alone or in sequences."""
    import tensorflow_datasets as tfds

    def inside(feature):
        feature = getattr(feature, "feature", feature)  # what a sequence holds
        if type(feature) is tfds.features.Text:
            return ()
        named = isinstance(feature, tfds.features.FeaturesDict) and "text" in feature
        return ("text",) if named and type(feature["text"]) is tfds.features.Text else None

    paths = {key: inside(feature) for key, feature in features.items()}
    found = [(key, *paths[key]) for key in ("captions", "caption", "text") if paths.get(key) is not None]
    return found[0] if found else None


def texts(value: Any) -> tuple[str, ...]:
    """Returns one text or a sequence of them, as bytes, as a tuple."""
    several = [value] if isinstance(value, bytes | str) else value
    return tuple(text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text) for text in several)


def missing(name: str, data_dir: str | None) -> str:
    """Returns why a set was not found: a misspelt name, an unknown configuration, or a set to prepare, and how."""
    import tensorflow_datasets as tfds

    stem, known = re.split("[/:]", name)[0], tfds.list_builders(with_community_datasets=False)
    where = data_dir or "the default folder"
    if stem not in known:
        near = difflib.get_close_matches(stem, known, n=1, cutoff=0)[0]
        return f"there is no TFDS set {stem!r}, nor one of your own in {where}; did you mean {near!r}?"
    try:
        tfds.builder(name, data_dir=data_dir)
    except (AssertionError, ValueError) as error:
        return f"TFDS cannot build {name!r}: {first_line(error)}"
    except ImportError:
        pass  # this needs TensorFlow, which the advice mentions
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
