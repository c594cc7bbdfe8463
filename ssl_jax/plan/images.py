"""A set of images of which only the number and the fields are known."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ssl_jax import data, schema
from ssl_jax.data.survey import NEW
from ssl_jax.errors import UserError

# Training images and classes, by the catalogue of TensorFlow Datasets; of COCO, the images of 2017; of YFCC100M, those
# with English captions (arXiv:2103.00020, appendix A).
SIZES = {
    "embedded:fashion_mnist": (10_000, 10),
    "embedded:fashion_mnist_captions": (10_000, 10),
    "tfds:cifar10": (50_000, 10),
    "tfds:cifar100": (50_000, 100),
    "tfds:stl10": (5_000, 10),
    "tfds:imagenet2012": (1_281_167, 1000),
    "tfds:imagenet_resized/32x32": (1_281_167, 1000),
    "tfds:imagenet_resized/64x64": (1_281_167, 1000),
    "tfds:places365_small": (1_803_460, 365),
    "folder:coco": (118_287, 0),
    "pairs:yfcc15m": (14_829_396, 0),
}
CAPTIONS = 8  # most of an image


class UnseenImages:
    """A source whose images are never read."""

    version, survey = None, NEW

    def __init__(self, config: ConfigDict, count: int, classes: int):
        self.name, self.count = config.data.source, count
        self.classes = tuple(map(str, range(classes))) or None
        self.labels = np.arange(count) % max(classes, 1)
        self.listing: list[tuple[str, int]] = []
        captioned = schema.method_class(config).needs_text
        text = data.Text(CAPTIONS, config.data.context) if captioned else None
        self.fields = data.image_fields(["mask"] * config.data.masks, text)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> dict[str, Any]:
        raise TypeError("a plan reads no images")


def unseen(config: ConfigDict, images: int | None = None, classes: int | None = None) -> UnseenImages:
    """Returns a stand-in for the training images of a config.

    Args:
        config: the config.
        images: how many there are; None: as the set has.
        classes: likewise; 0 for no labels.

    Raises:
        UserError: if the number of images is not known.
    """
    scheme, _, name = anywhere(config.data.source).partition(":")
    known = SIZES.get(f"{scheme}:{name.split(':')[0]}", (None, 0))  # versions of a set have the same images
    count = known[0] if images is None else images
    for option, number in ("--images", images), ("--classes", classes):
        if number is not None and number < 0:
            raise UserError(f"{option} is {number}; set it to 0 or more")
    if count is None:
        raise UserError(f"a plan does not open {config.data.source}; say how many images it has, as in --images=100000")
    return UnseenImages(config, count, known[1] if classes is None else classes)


def anywhere(source: str) -> str:
    """Returns the name of a set without the folder that it is in, as in "folder:coco"."""
    scheme, _, name = source.partition(":")
    return f"{scheme}:{name.rsplit('/', 1)[-1]}" if scheme in ("folder", "pairs") else source
