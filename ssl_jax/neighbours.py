"""A page of nearest neighbours, near-duplicates and outliers among embedded images."""

import base64
import csv
import difflib
import io
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from PIL import Image

from ssl_jax import parallel
from ssl_jax.errors import UserError
from ssl_jax.report.page import STYLE, document
from ssl_jax.report.sections import escape

NEIGHBOURS = 10  # of each image
SHOWN = 48  # most pairs, and most outliers, on the page
SIDE = 96  # pixels, longer side of a picture
OWN_STYLE = (
    STYLE
    + """
.row { display: flex; gap: .6rem; margin-bottom: 1rem } .row figure:first-child { margin-right: 1rem }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, 210px); gap: 1rem }
.pairs .row { margin: 0; gap: .2rem } .pairs .row figure:first-child { margin: 0 }
.items { display: flex; flex-wrap: wrap; gap: .8rem }
figure { width: 100px } figure img { display: block }
figcaption { font-size: .75rem; font-weight: 400; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
"""
)


class Found(NamedTuple):
    """The nearest others of each of N images, and what follows from them."""

    similarity: np.ndarray  # [N, K], cosines, nearest first
    position: np.ndarray  # int [N, K]
    pairs: list[tuple[int, int, float]]  # near-duplicates and their cosine, nearest first
    outliers: np.ndarray  # int [N], by the mean similarity to the K nearest, lowest first


def choose(text: str, files: np.ndarray) -> np.ndarray:
    """Returns the positions of the images to show.

    Args:
        text: a number of images, evenly spaced, or names of files with commas between them, each the end of one path.
        files: the paths of all images.

    Raises:
        UserError: if the number is 0, or a name is of no file or of several.
    """
    if text.isdecimal():
        if not int(text):
            raise UserError("--nearest is 0; set it to a number of images or to names of files")
        return np.unique(np.linspace(0, len(files) - 1, int(text), dtype=int))
    return np.array([position(name, files) for name in text.split(",")])


def position(name: str, files: np.ndarray) -> int:
    """Returns the position of the one file whose path ends with a name."""
    ends = np.char.endswith(files, f"{os.sep}{name.lstrip(os.sep)}") | (files == name)
    (found,) = np.nonzero(ends)
    if len(found) > 1:
        raise UserError(
            f"--nearest={name} is the end of {len(found)} paths; give more of the path, as in {files[found[0]]}"
        )
    if not len(found):
        near = difflib.get_close_matches(name, [os.path.basename(file) for file in files.tolist()], n=1, cutoff=0)
        raise UserError(f"--nearest={name} is none of the images; did you mean {near[0]!r}?")
    return int(found[0])


def search(embeddings: np.ndarray, threshold: float, k: int = NEIGHBOURS) -> Found:
    """Compares all images with all others; the work is split over the devices.

    Args:
        embeddings: [N, D].
        threshold: least cosine of near-duplicates. Of an image only the k nearest are looked at.
        k: neighbours of an image.

    Raises:
        UserError: if there are fewer than two images.
    """
    count = len(embeddings)
    if count < 2:
        raise UserError(f"neighbours need at least two images, and there are {count}; leave --nearest out")
    rows = jnp.asarray(embeddings)
    similarity, position = parallel.gather(parallel.neighbors(rows, rows, k + 1, None, parallel.make_mesh()))
    other = position != np.arange(count)[:, None]
    # An image finds itself, unless more than k others are its equals.
    order = np.argsort(~other, axis=1, kind="stable")[:, : min(k, count - 1)]
    similarity, position = (np.take_along_axis(x, order, axis=1) for x in (similarity, position))
    i, j = np.nonzero(similarity >= threshold)
    ends = np.sort(np.stack([i, position[i, j]], axis=1), axis=1)
    ends, first = np.unique(ends, axis=0, return_index=True)
    values = similarity[i, j][first]
    ranked = np.argsort(-values, kind="stable")
    pairs = [(*ends[n].tolist(), float(values[n])) for n in ranked]
    return Found(similarity, position, pairs, np.argsort(similarity.mean(1), kind="stable"))


def write(out: pathlib.Path, images: Any, found: Found, shown: Sequence[int] | np.ndarray) -> list[pathlib.Path]:
    """Writes the page and both tables beside a file of embeddings.

    Args:
        out: the file of embeddings, whose name without suffix theirs begin with.
        images: a source whose `columns` have the `file` of each image.
        found: of all images.
        shown: positions of the images whose neighbours are shown.

    Returns:
        The files: .html, _duplicates.csv and _outliers.csv.
    """
    files = images.columns["file"]
    means = found.similarity.mean(1)
    page, duplicates, outliers = (
        out.with_name(out.stem + end) for end in (".html", "_duplicates.csv", "_outliers.csv")
    )
    table(duplicates, ("file", "other", "similarity"), ([files[i], files[j], f"{s:.4f}"] for i, j, s in found.pairs))
    table(outliers, ("file", "mean_similarity"), ([files[i], f"{means[i]:.4f}"] for i in found.outliers))
    sections = {
        "Nearest neighbours": "".join(row(images, found, i) for i in shown),
        "Near-duplicates": pairs(images, found, duplicates.name),
        "Outliers": '<p class="sub">The images that are least similar to their '
        f'{found.position.shape[1]} nearest others.</p><div class="items">'
        + "".join(figure(images, i, f"{means[i]:.2f}") for i in found.outliers[:SHOWN])
        + "</div>",
    }
    subtitle = f"{len(files):,} images of {images.name} · cosine similarity of embeddings"
    page.write_text(document(out.name, subtitle, sections, OWN_STYLE), encoding="utf-8", errors="replace")
    return [page, duplicates, outliers]


def row(images: Any, found: Found, i: int) -> str:
    """Returns the HTML of an image and its neighbours."""
    others = zip(found.position[i], found.similarity[i], strict=True)
    cells = [figure(images, i, ""), *(figure(images, j, f"{value:.2f}") for j, value in others)]
    return f'<div class="row">{"".join(cells)}</div>'


def pairs(images: Any, found: Found, file: str) -> str:
    """Returns the HTML of the pairs of near-duplicates that are nearest; all of them are in a file."""
    cells = (
        f'<div class="row">{figure(images, i, f"{value:.3f}")}{figure(images, j, "")}</div>'
        for i, j, value in found.pairs[:SHOWN]
    )
    count = len(found.pairs)
    words = f"Pairs: {count:,}. At most {SHOWN} are shown, the most similar first; all are in {escape(file)}."
    return f'<p class="sub">{words}</p><div class="pairs">{"".join(cells)}</div>'


def figure(images: Any, i: int, words: str) -> str:
    """Returns the HTML of a picture, with words and the name of the file below it, and its path where a mouse rests."""
    path = str(images.columns["file"][i])
    name = escape(os.path.basename(path))
    label = escape(images.columns["class"][i]) if "class" in images.columns else ""
    caption = "<br>".join(filter(None, (words, label, name)))
    image = f'<img alt="{name}" src="{picture(images[i]["image"])}">'
    return f'<figure title="{escape(path)}">{image}<figcaption>{caption}</figcaption></figure>'


def picture(pixels: np.ndarray) -> str:
    """Returns an image as a small JPEG in a URL; tiny ones are enlarged."""
    image = Image.fromarray(pixels)
    scale = SIDE / max(image.size)
    method = Image.Resampling.BICUBIC if scale < 1 else Image.Resampling.NEAREST
    image = image.resize([max(1, round(side * scale)) for side in image.size], method)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def table(path: pathlib.Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a CSV file."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        writer.writerows(rows)
