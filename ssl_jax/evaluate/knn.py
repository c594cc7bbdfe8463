"""Weighted k-nearest-neighbour classification by cosine similarity."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax import parallel


def weighted_knn(
    bank: jax.Array,
    labels: jax.Array,
    queries: jax.Array,
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
    valid: jax.Array | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> jax.Array:
    """Classifies queries by the votes of their nearest neighbours in a bank of labelled features.

    Args:
        bank: [N, D] features of any float type, which need not be normalised.
        labels: [N], their classes; rows with a negative label do not vote.
        queries: [M, D], the features to classify.
        classes: the number of classes.
        k: the number of neighbours that vote; all N if there are fewer.
        temperature: a neighbour votes with weight exp(cosine similarity / temperature).
        valid: bool [N], the rows that can be neighbours; None: all.
        mesh: the devices over which bank and queries are split by rows; None: one device has all.

    Returns:
        [M] predicted classes.

    Source: Wu et al. 2018 (InstDisc, arXiv:1805.01978), section 3.4; k = 20 as in DINO (arXiv:2104.14294).
    """
    return jnp.argmax(class_scores(bank, labels, queries, classes, k, temperature, valid, mesh), -1)


@partial(jax.jit, static_argnames=("classes", "k", "mesh"))
def class_scores(
    bank, labels, queries, classes: int, k: int = 20, temperature: float = 0.07, valid=None, mesh=None
) -> jax.Array:
    """Returns the votes [M, classes], of which `weighted_knn` takes the largest; the arguments are the same."""
    similarity, index = parallel.neighbors(bank, queries, k, valid, mesh)
    weight = jnp.exp(similarity / temperature)

    def vote(scores, neighbor):  # one neighbour of every query at a time, to avoid an array [M, k, classes]
        weight, label = neighbor
        return scores + weight[:, None] * jax.nn.one_hot(label, classes, dtype=weight.dtype), None

    scores = jnp.zeros((queries.shape[0], classes), weight.dtype)
    return jax.lax.scan(vote, scores, (weight.T, labels[index].T))[0]


def top1(predictions: Any, labels: Any) -> float:
    """Returns the percentage of predictions [M] that equal their labels [M]; rows with negative labels are ignored."""
    predictions, labels = map(np.asarray, jax.device_get((predictions, labels)))
    return 100 * int(np.sum((predictions == labels) & (labels >= 0))) / max(1, int(np.sum(labels >= 0)))
