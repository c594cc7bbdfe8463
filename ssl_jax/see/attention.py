"""The attention of each head of a vision transformer, and the mask that holds most of it."""

from typing import Any

import jax.numpy as jnp
import matplotlib
import numpy as np

from ssl_jax.evaluate.segmentation import MASS, attends, jaccard, most_attended
from ssl_jax.method import look
from ssl_jax.patches import enlarge
from ssl_jax.report import pictures
from ssl_jax.report.pictures import Cell
from ssl_jax.see.sheet import Sheet

OUTSIDE, SHARE = (70, 110, 180), 0.65  # a colour, and its share in what is outside a mask


def compute(run, params, state, batch) -> dict[str, Any]:
    """Returns, for each image, the `attention` of each head of the last block [N, heads, H, W] and a `mask` [N, H, W].

    The mask is that of the head which agrees best with the `truth`, the image's own mask: its number is `head` [N], its
    Jaccard index `score` [N]. Where images have no masks, it is the mask of the mean over the heads.
    """
    encoder = run.method.network.encoder
    variables, images = run.method.seen(params, state, batch["image"])
    attended = look(run.method.network, variables, "attended", images)

    def pictured(x):
        return enlarge(x, images.shape[1], encoder.stride)

    found = {"attention": pictured(attended), "token": jnp.array(encoder.pool == "token")}
    if "mask" not in batch:
        return found | {"mask": pictured(most_attended(attended.mean(1)))}
    masks = pictured(most_attended(attended))
    scores = jaccard(masks, batch["mask"][:, None])
    head = jnp.argmax(scores, axis=1)
    mask = jnp.take_along_axis(masks, head[:, None, None, None], axis=1)[:, 0]
    return found | {"mask": mask, "truth": batch["mask"], "head": head, "score": jnp.max(scores, axis=1)}


def draw(images, found):
    """Draws an image, its attention in each head, its own mask if it has one, and that of the attention."""
    heads = found["attention"].shape[1]
    captions = ["image", *(f"head {number + 1}" for number in range(heads))]
    rows = [[Cell(image), *map(Cell, heat(maps))] for image, maps in zip(images, found["attention"], strict=True)]
    share = f"{100 * MASS:.0f} % (not blue) of"
    if "truth" in found:
        captions += ["mask", f"{share} the best head"]
        columns = zip(rows, images, found["truth"], found["mask"], found["head"], found["score"], strict=True)
        for row, image, truth, mask, head, score in columns:
            agreement = f"head {head + 1}: Jaccard {100 * score:.0f} %"
            row += [Cell(inside(image, truth)), Cell(inside(image, mask), agreement)]
    else:
        captions += [f"{share} the mean"]
        for row, image, mask in zip(rows, images, found["mask"], strict=True):
            row += [Cell(inside(image, mask))]
    query = "class token" if found["token"] else "mean patch, as there is no class token,"
    title = f"Attention of the {query} in the last block, from none (black) to the most (white)"
    return pictures.layout(rows, captions, title=title)


def heat(maps: np.ndarray) -> np.ndarray:
    """Returns maps [heads, H, W] as colours, uint8 [heads, H, W, 3], from 0 to the largest value of each."""
    colors = matplotlib.colormaps["magma"](maps / maps.max(axis=(1, 2), keepdims=True))
    return pictures.levels(colors[..., :3])


def inside(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns an image uint8 [H, W, 3] that is tinted outside a mask, bool [H, W]."""
    tinted = np.round((1 - SHARE) * image + SHARE * np.array(OUTSIDE)).astype(np.uint8)
    return np.where(mask[:, :, None], image, tinted)


SHEET = Sheet("a vision transformer", lambda run, fields: attends(run), compute, draw)
