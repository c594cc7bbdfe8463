"""Weighted k-nearest-neighbour classification by cosine similarity."""

import dataclasses
from functools import partial
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax import parallel
from ssl_jax.evaluate.result import Protocol, Result, classified
from ssl_jax.fields import every, positive


class Votes(NamedTuple):
    """The settings of `weighted_knn`."""

    classes: int
    k: int = 20
    temperature: float = 0.07


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
    return votes(similarity, labels[index], classes, temperature)


def votes(similarity: jax.Array, labels: jax.Array, classes: int, temperature: float) -> jax.Array:
    """Returns the votes [M, classes] of neighbours with these similarities and labels [M, k]."""
    weight = jnp.exp(similarity / temperature)

    def vote(scores, neighbor):  # one neighbour of every query at a time, to avoid an array [M, k, classes]
        weight, label = neighbor
        return scores + weight[:, None] * jax.nn.one_hot(label, classes, dtype=weight.dtype), None

    scores = jnp.zeros((len(similarity), classes), weight.dtype)
    return jax.lax.scan(vote, scores, (weight.T, labels.T))[0]


@partial(jax.jit, static_argnames=("classes", "k"))
def vote_of(similarity, labels, classes: int, k: int, temperature: float) -> jax.Array:
    """Returns the classes [M] that the k nearest of neighbours, in decreasing order of similarity, vote for."""
    return jnp.argmax(votes(similarity[:, :k], labels[:, :k], classes, temperature), -1)


@jax.jit
def without_self(similarity: jax.Array, index: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the neighbours [M, k] of the rows of a bank among its other rows, [M, k - 1]."""
    other = index != jnp.arange(len(index), dtype=index.dtype)[:, None]
    order = jnp.argsort(~other, axis=1, stable=True)[:, :-1]  # itself last; or, if it was not found, the last
    return jnp.take_along_axis(similarity, order, 1), jnp.take_along_axis(index, order, 1)


def nearest(pair: Any, k: int, mesh: jax.sharding.Mesh) -> tuple[jax.Array, jax.Array, Any]:
    """Finds the neighbours in the bank of each test image, or of each image of the bank if there is no other split.

    Args:
        pair: features of the bank and of the test sample or None.
        k: how many.
        mesh: the devices.

    Returns:
        Similarities and labels [M, k], and the features whose neighbours they are.
    """
    bank, test = pair
    queries, more = (bank, 1) if test is None else (test, 0)
    similarity, index = parallel.neighbors(bank.x, queries.x, k + more, bank.position >= 0, mesh)
    if test is None:
        similarity, index = without_self(similarity, index)
    return similarity, bank.label[index], queries


@dataclasses.dataclass(frozen=True)
class KNN(Protocol):
    """Weighted k-NN on cosine similarity, see `weighted_knn`, for every k with every temperature.

    With one split, each image is classified by its neighbours among the others.
    """

    k: Annotated[tuple[int, ...], every(positive)] = (20,)  # neighbours that vote; the first is the headline
    temperature: Annotated[tuple[float, ...], every(positive)] = (0.07,)  # of their votes; likewise

    needs = ("labels",)

    def __call__(self, subject: Any) -> Result:
        similarity, labels, queries = nearest(subject.features(), max(self.k), subject.mesh)
        results = {
            (k, temperature): classified(vote_of(similarity, labels, len(subject.classes), k, temperature), queries)
            for k in self.k
            for temperature in self.temperature
        }
        rows = [{"k": k, "temperature": t} | result.numbers for (k, t), result in results.items()]
        first = results[self.k[0], self.temperature[0]]
        return first._replace(numbers=first.numbers | {"rows": rows}) if len(rows) > 1 else first


def top1(predictions: Any, labels: Any) -> float:
    """Returns the percentage of predictions [M] that equal their labels [M]; rows with negative labels are ignored."""
    predictions, labels = map(np.asarray, jax.device_get((predictions, labels)))
    return 100 * int(np.sum((predictions == labels) & (labels >= 0))) / max(1, int(np.sum(labels >= 0)))
