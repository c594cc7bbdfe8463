"""Images with hidden patches, and what a method predicts of them."""

import jax

from ssl_jax import augment
from ssl_jax.report import pictures
from ssl_jax.see.sheet import Sheet


def applies(run, fields) -> bool:
    return hasattr(run.method, "reconstruct")


def compute(run, params, state, batch):
    """Returns the images with hidden patches, and with these predicted: [N, H, W, 3] in [0, 1]."""
    found = run.method.reconstruct(params, state, batch["image"], jax.random.key(0))
    return [augment.denormalize(run.recipe, one) for one in found]


def draw(images, found):
    """Draws an image, what of it is visible, and its reconstruction from that."""
    rows = list(zip(images, *map(pictures.levels, found), strict=True))
    return pictures.sheet(rows, ["image", "visible", "reconstruction"])


SHEET = Sheet("a method that predicts pixels", applies, compute, draw)
