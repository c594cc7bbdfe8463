"""The classifier that needs no training: the votes of the nearest neighbours by cosine."""

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
        bank: [N, D] features, any float type, need not be normalised.
        labels: [N] their classes; a negative one does not vote.
        queries: [M, D] features to classify.
        classes: how many classes there are.
        k: how many neighbours vote (all N if there are fewer).
        temperature: a neighbour votes with exp(cosine similarity / temperature).
        valid: bool [N], the rows that can be neighbours; None: all.
        mesh: the devices that share the rows of bank and queries; None: one device has all.

    Returns:
        [M] predicted classes.

    Source: Wu et al. 2018 (InstDisc, arXiv:1805.01978), section 3.4; k = 20 as in DINO (arXiv:2104.14294).
    """
    return jnp.argmax(class_scores(bank, labels, queries, classes, k, temperature, valid, mesh), -1)


@partial(jax.jit, static_argnames=("classes", "k", "mesh"))
def class_scores(
    bank, labels, queries, classes: int, k: int = 20, temperature: float = 0.07, valid=None, mesh=None
) -> jax.Array:
    """Returns the votes [M, classes], of which `weighted_knn` takes the largest; arguments as there."""
    similarity, index = parallel.neighbors(bank, queries, k, valid, mesh)
    weight = jnp.exp(similarity / temperature)

    def vote(scores, neighbor):  # one neighbour of every query at a time: [M, k, classes] never exists
        weight, label = neighbor
        return scores + weight[:, None] * jax.nn.one_hot(label, classes, dtype=weight.dtype), None

    scores = jnp.zeros((queries.shape[0], classes), weight.dtype)
    return jax.lax.scan(vote, scores, (weight.T, labels[index].T))[0]


def top1(predictions: Any, labels: Any) -> float:
    """Returns the percentage of predictions [M] that equal their labels [M]; negative labels, unknown, do not count."""
    predictions, labels = map(np.asarray, jax.device_get((predictions, labels)))
    return 100 * int(np.sum((predictions == labels) & (labels >= 0))) / max(1, int(np.sum(labels >= 0)))
