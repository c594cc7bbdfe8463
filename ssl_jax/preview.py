"""The command that draws augmented views: `python -m ssl_jax.preview --config=FILE[:preset] --out=PNG`."""

import pathlib

import jax
import numpy as np

from ssl_jax import augment, command, data
from ssl_jax.build import build
from ssl_jax.config import load
from ssl_jax.report import pictures
from ssl_jax.run import Run

ROWS = 8  # images shown


def write(run: Run, path: pathlib.Path) -> None:
    """Draws the first images of the first batch of a run, one per row: the original and all its views.

    Args:
        run: the run, with its images, recipe and seed.
        path: the PNG to write.
    """
    index = run.order(0)[:ROWS]
    raw = data.read(run.source, index, run.canvas)
    views = augment.batch(run.recipe, jax.random.key(run.config.seed), jax.device_put(raw), 0)["views"]
    columns = []
    for group, pixels in zip(run.recipe.groups, views, strict=True):
        shown = np.asarray(augment.denormalize(run.recipe, pixels))
        columns += [pictures.mosaic(shown, group.grid.side)] if group.grid else list(np.moveaxis(shown, 1, 0))
    rows = [
        [image[:height, :width], *(np.round(255 * column[i]).astype(np.uint8) for column in columns)]
        for i, (image, (_, _, height, width)) in enumerate(zip(raw["image"], raw["box"], strict=True))
    ]
    pictures.sheet(rows, ("original", *augment.describe(run.recipe))).save(path, "PNG")


def main(options) -> None:
    config = load(options.config, options.overrides)
    out = command.writable_file(options.out)
    write(build(config), out)
    print(f"{out}: {ROWS} images of {config.data.source}, views of the recipe {config.augment.recipe!r}")


def parser() -> command.Parser:
    parser = command.Parser("preview", "Draws images and their augmented views under a config.")
    parser.add_argument("--config", required=True, metavar="FILE[:PRESET]", help="a recipe, such as configs/byol.py")
    parser.add_argument("--out", required=True, metavar="PNG", help="the picture to write")
    return parser


if __name__ == "__main__":
    command.run(main, parser())
