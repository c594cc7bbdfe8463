"""The command that draws augmented views: `python -m ssl_jax.preview --config=FILE[:preset] --out=PNG`."""

import functools
import pathlib

import jax
import numpy as np

from ssl_jax import augment, command, data
from ssl_jax.build import build
from ssl_jax.config import load, load_for_photos
from ssl_jax.report import pictures
from ssl_jax.run import Run

ROWS = 8  # images shown


def write(run: Run, path: pathlib.Path) -> None:
    """Draws the first images of the first batch of a run, one per row: the original and all its views.

    Args:
        run: the run, with its images, recipe and seed.
        path: the PNG to write.
    """
    buckets = max(len(group.buckets) for group in run.recipe.groups) or 1
    index = run.order(0)[: max(ROWS // buckets, 1) * buckets]  # equally many of each size
    raw = data.read(run.source, index, run.canvas)
    columns: list = []
    for recipe in run.recipes:
        draw = jax.jit(functools.partial(augment.batch, recipe))  # of its operations, each would compile by itself
        views = draw(jax.random.key(run.config.seed), raw, 0)["views"]
        for group, pixels in zip(recipe.groups, views, strict=True):
            columns += shown(recipe, group, pixels)
    rows = [
        [image[:height, :width], *(pictures.levels(column[i]) for column in columns)]
        for i, (image, (_, _, height, width)) in enumerate(zip(raw["image"], raw["box"], strict=True))
    ]
    captions = [caption for recipe in run.recipes for caption in augment.describe(recipe)]
    pictures.sheet(rows, ("original", *captions)).save(path, "PNG")


def shown(recipe: augment.Recipe, group: augment.Group, pixels) -> list:
    """Returns the columns of a group of views, [B, V, H, W, 3] or `Buckets`: in each an image for each row."""
    if group.buckets:
        parts = [shown(recipe, one, part) for one, part in zip(group.buckets, pixels, strict=True)]
        return [[image for row in zip(*column, strict=True) for image in row] for column in zip(*parts, strict=True)]
    images = np.asarray(augment.denormalize(recipe, pixels))
    return [pictures.mosaic(images, group.grid.side)] if group.grid else list(np.moveaxis(images, 1, 0))


def main(options) -> None:
    arguments = options.config, options.overrides
    config, photos = load(*arguments), load_for_photos(*arguments)
    out = command.writable_file(options.out)
    run = build(config, photos=photos)
    write(run, out)
    print(f"{out}: images of {config.data.source}, views of the recipe {run.config.augment.recipe!r}")


def parser() -> command.Parser:
    parser = command.Parser("preview", "Draws images and their augmented views under a config.")
    parser.add_argument("--config", required=True, metavar="FILE[:PRESET]", help="a recipe, such as configs/byol.py")
    parser.add_argument("--out", required=True, metavar="PNG", help="the picture to write")
    return parser


if __name__ == "__main__":
    command.run(main, parser())
