"""Nearest neighbours by cosine: the classifier that needs no training, and pictures' look-alikes."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.numeric import normalize


def weighted_knn(
    bank: jax.Array,
    labels: jax.Array,
    queries: jax.Array,
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> jax.Array:
    """Classifies queries by the votes of their nearest neighbours in a bank of labelled features.

    Args:
        bank: [N, D] features, any float type, need not be normalised.
        labels: [N] their classes; a negative one does not vote.
        queries: [M, D] features to classify.
        classes: how many classes there are.
        k: how many neighbours vote (all N if there are fewer).
        temperature: a neighbour votes with exp(cosine similarity / temperature).

    Returns: [M] predicted classes.

    Source: Wu et al. 2018 (InstDisc, arXiv:1805.01978), section 3.4; k = 20 as in DINO (arXiv:2104.14294).
    """
    return jnp.argmax(class_scores(bank, labels, queries, classes, k, temperature), -1)


@partial(jax.jit, static_argnames=("classes", "k"))
def class_scores(bank, labels, queries, classes: int, k: int = 20, temperature: float = 0.07) -> jax.Array:
    """Returns the votes [M, classes] that `weighted_knn` chooses the largest of."""
    similarity, index = neighbors(bank, queries, k)
    weight = jnp.exp(similarity / temperature)

    def vote(scores, neighbor):  # one neighbour of every query at a time: [M, k, classes] never exists
        weight, label = neighbor
        return scores + weight[:, None] * jax.nn.one_hot(label, classes, dtype=weight.dtype), None

    scores = jnp.zeros((queries.shape[0], classes), weight.dtype)
    return jax.lax.scan(vote, scores, (weight.T, labels[index].T))[0]


def nearest(bank: jax.Array, queries: jax.Array, k: int) -> jax.Array:
    """Returns the positions [M, k] in the bank [N, D] of each query's [M, D] nearest neighbours, nearest first."""
    return neighbors(bank, queries, k)[1]


@partial(jax.jit, static_argnames=("k", "tile"))
def neighbors(bank: jax.Array, queries: jax.Array, k: int, tile: tuple[int, int] = (1024, 4096)):
    """Finds the k rows of a bank most similar to each query.

    Both are walked through in tiles with a running best k: beyond the arguments and one normalised copy of them, this
    takes at most 4 * tile[0] * (tile[1] + k) numbers, whatever N and M are.

    Args:
        bank: [N, D] features.
        queries: [M, D] features.
        k: how many to find (all N if there are fewer).
        tile: how many queries meet how many rows of the bank at a time.

    Returns: cosine similarities [M, k] in at least float32, largest first, and positions in the bank [M, k].
    """
    rows, k = bank.shape[0], min(k, bank.shape[0])
    tiles = into_tiles(normalize(bank), min(tile[1], rows))
    starts = jnp.arange(tiles.shape[0], dtype=jnp.int32) * tiles.shape[1]

    def search(queries):
        def meet(best, bank_tile):
            start, features = bank_tile
            position = start + jnp.arange(features.shape[0], dtype=jnp.int32)
            similarity = jnp.matmul(queries, features.T, precision=jax.lax.Precision.HIGHEST)
            similarity = jnp.where(position[None] < rows, similarity, -jnp.inf)  # the last tile is padded
            position = jnp.broadcast_to(position[None], similarity.shape)
            similarity, position = (jnp.concatenate(pair, 1) for pair in zip(best, (similarity, position), strict=True))
            similarity, chosen = jax.lax.top_k(similarity, k)
            return (similarity, jnp.take_along_axis(position, chosen, 1)), None

        shape = (queries.shape[0], k)
        nothing = jnp.full(shape, -jnp.inf, queries.dtype), jnp.zeros(shape, jnp.int32)
        return jax.lax.scan(meet, nothing, (starts, tiles))[0]

    found = jax.lax.map(search, into_tiles(normalize(queries), min(tile[0], queries.shape[0])))
    return jax.tree.map(lambda x: x.reshape(-1, k)[: queries.shape[0]], found)


def into_tiles(x: jax.Array, size: int) -> jax.Array:
    """Returns x [N, D] as [ceil(N / size), size, D], padded with zeros."""
    padded = jnp.pad(x, ((0, -x.shape[0] % size), (0, 0)))
    return padded.reshape(-1, size, x.shape[1])


def top1(predictions: Any, labels: Any) -> float:
    """Returns the percentage of predictions [M] that equal their labels [M]."""
    predictions, labels = jax.device_get((predictions, labels))
    return 100 * int(np.sum(predictions == labels)) / len(labels)
