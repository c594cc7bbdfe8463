"""What the first start of a run chooses where its config leaves it open; config.json keeps it, and a resume follows."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ssl_jax import data
from ssl_jax.run import build_recipes
from ssl_jax.schema import lookup
from ssl_jax.workdir import differences, read_config

SAMPLE = 16  # images looked at
COLORED = 2.0  # levels of 255 by which the channels of a pixel differ at least, on average, in an image with colours

Choose = Callable[[ConfigDict, data.Source], ConfigDict]


def chooser(photos: ConfigDict | None, workdir: pathlib.Path | None = None) -> Choose:
    """Returns the function that completes the config of a run, given its images.

    Args:
        photos: what to use in place of the config if the images are colour photographs, see `config.load_for_photos`.
        workdir: of the run; if it has begun there, it goes on as it began.
    """
    try:
        return functools.partial(as_before, photos, read_config(workdir))
    except (OSError, ValueError, TypeError):  # there is none, or `hold` says what is wrong with it
        return functools.partial(by_images, photos)


def as_before(
    photos: ConfigDict | None, stored: Mapping[str, Any], config: ConfigDict, source: data.Source
) -> ConfigDict:
    """Returns the config that a run has begun with: the one that differs less from what it stored."""
    config = min(filter(None, (config, photos)), key=lambda one: len(differences(stored, one)))
    if config.data.canvas is None:
        config.data.canvas = lookup(stored, "data.canvas")
    if config.steps is None and config.minutes is not None and config.minutes == stored.get("minutes"):
        config.steps = stored.get("steps")
    return config


def by_images(photos: ConfigDict | None, config: ConfigDict, source: data.Source) -> ConfigDict:
    """Returns the config for what a sample of the images shows: colours, and sizes.

    The canvas of images that are not embedded becomes as large as their crops need, so that none is enlarged.
    """
    places = np.linspace(0, len(source) - 1, min(SAMPLE, len(source))).astype(int)
    images = [source[int(i)]["image"] for i in places]
    if photos is not None and are_colored(images):
        config = photos
        if jax.process_index() == 0:
            print(
                f"the images have colours: the views are those of {config.augment.recipe!r} for photographs; "
                "--config.augment.recipe=NAME chooses others"
            )
    if config.data.canvas is None and not config.data.source.startswith("embedded:"):
        needed = max(recipe.source_size for recipe in build_recipes(config))
        canvas = min(needed, max(max(image.shape[:2]) for image in images))
        config.data.canvas = canvas if canvas > config.data.size else None
    return config


def are_colored(images: Sequence[np.ndarray]) -> bool:
    """Returns whether images, uint8 [H, W, 3], have colours: whether their channels differ."""
    return float(np.mean([np.ptp(image, axis=-1).mean() for image in images])) > COLORED
