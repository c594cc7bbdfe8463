"""The patches of an image that a method keeps, and those that it removes before its network sees it."""

import jax

from ssl_jax.augment import Views
from ssl_jax.patches import enlarge
from ssl_jax.report import pictures
from ssl_jax.report.pictures import Cell
from ssl_jax.see.attention import inside
from ssl_jax.see.sheet import Sheet


def applies(run, fields) -> bool:
    return hasattr(run.method, "choose")


def compute(run, params, state, batch):
    """Returns bool [N, H, W], where in each image the patches are that are kept."""
    images = batch["image"]
    kept = run.method.choose(state.target, Views([images[:, None]]), jax.random.key(0))
    return enlarge(kept, images.shape[1], run.method.network.encoder.stride)[:, 0]


def draw(images, kept):
    """Draws an image, what is kept of it, and what is removed."""
    rows = [
        [Cell(image), Cell(inside(image, mask)), Cell(inside(image, ~mask))]
        for image, mask in zip(images, kept, strict=True)
    ]
    return pictures.layout(rows, ["image", "kept", "removed"])


SHEET = Sheet("a method that removes patches", applies, compute, draw)
