"""The first three principal components of the features of patches, as red, green and blue."""

import numpy as np

from ssl_jax.method import look
from ssl_jax.report import pictures
from ssl_jax.report.pictures import Cell
from ssl_jax.see.sheet import Sheet

LAYERS = 4  # shown, at equal distances; in the last are the features of the patches themselves


def compute(run, params, state, batch):
    """Returns the features of the patches [N, S, C] in some layers, by caption."""
    variables, images = run.method.seen(params, state, batch["image"])
    encoding = look(run.method.network, variables, "encoding", images)
    depth = len(encoding.layers)
    numbers = sorted({depth * quarter // LAYERS for quarter in range(1, LAYERS)} - {0})
    return {f"layer {i} of {depth}": encoding.layers[i - 1] for i in numbers} | {"patch features": encoding.patches}


def draw(images, found):
    """Draws an image and, for each layer, the components, which all images share."""
    columns = []
    for features in found.values():
        side = round(features.shape[1] ** 0.5)
        colors = pictures.levels(principal(features)).reshape(len(images), side, side, 3)
        patch = images.shape[1] // side
        columns.append(colors.repeat(patch, axis=1).repeat(patch, axis=2))
    rows = [list(map(Cell, row)) for row in zip(images, *columns, strict=True)]
    title = "The three principal components of all patches of a column, as red, green and blue"
    return pictures.layout(rows, ["image", *found], title=title)


def principal(features: np.ndarray, count: int = 3) -> np.ndarray:
    """Returns the leading principal components of all features [N, S, C] together, from 0 to 1 each: [N, S, count].

    The sign of a component, which is arbitrary, is such that its largest weight is positive.
    """
    rows = features.reshape(-1, features.shape[-1]).astype(float)
    rows -= rows.mean(0)
    axes = np.linalg.svd(rows, full_matrices=False)[2][:count]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1)
    values = rows @ (axes * np.sign(largest)).T
    values -= values.min(0)
    return (values / np.maximum(values.max(0), 1e-12)).reshape(*features.shape[:2], count)


SHEET = Sheet("", lambda run, fields: True, compute, draw)
