"""What the first start of a run chooses where its config leaves it open; config.json keeps it, and a resume follows."""

import pathlib
from collections.abc import Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from ssl_jax import data
from ssl_jax.schema import lookup
from ssl_jax.workdir import differences, read_config

SAMPLE = 16  # images looked at
COLORED = 2.0  # levels of 255 by which the channels of a pixel differ at least, on average, in images with colours


def recall(
    config: ConfigDict, photos: ConfigDict | None, workdir: pathlib.Path
) -> tuple[ConfigDict, ConfigDict | None]:
    """Returns the config that a run has begun with, and None; both arguments if it has not begun.

    Args:
        config: the config of the command.
        photos: what to use in its place if the images are colour photographs, see `config.load_for_photos`.
        workdir: of the run.
    """
    try:
        stored = read_config(workdir)
    except (OSError, ValueError):  # there is none, or `hold` says what is wrong with it
        return config, photos
    config = min(filter(None, (config, photos)), key=lambda one: len(differences(stored, one)))
    if config.resolution.mode is None:
        config.resolution.mode = lookup(stored, "resolution.mode")  # "mixed" was the default
    if config.steps is None and config.minutes is not None and config.minutes == stored.get("minutes"):
        config.steps = stored.get("steps")
    return config, None


def by_images(config: ConfigDict, photos: ConfigDict | None, source: data.Source) -> ConfigDict:
    """Returns `photos`, if there is one and a sample of the images has colours, and says so; else `config`."""
    places = np.linspace(0, len(source) - 1, min(SAMPLE, len(source))).astype(int)
    if photos is None or not are_colored([source[int(i)]["image"] for i in places]):
        return config
    if jax.process_index() == 0:
        print(
            f"the images have colours: the views are those of {photos.augment.recipe!r} for photographs; "
            "--config.augment.recipe=NAME chooses others"
        )
    return photos


def are_colored(images: Sequence[np.ndarray]) -> bool:
    """Returns whether images, uint8 [H, W, 3], have colours: whether their channels differ."""
    return float(np.mean([np.ptp(image, axis=-1).mean() for image in images])) > COLORED
