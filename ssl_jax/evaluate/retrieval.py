"""Retrieval: which images of the same class are nearest to an image."""

import dataclasses
from typing import Annotated

import jax.numpy as jnp
import numpy as np

from ssl_jax import losses, parallel
from ssl_jax.errors import UserError
from ssl_jax.evaluate.clusters import agreement
from ssl_jax.evaluate.features import Features
from ssl_jax.evaluate.knn import nearest
from ssl_jax.evaluate.result import Protocol, Result, scored
from ssl_jax.evaluate.subject import Pair, Subject
from ssl_jax.fields import every, positive
from ssl_jax.numeric import l2_normalize

ITERATIONS = 20  # of k-means


@dataclasses.dataclass(frozen=True)
class Retrieval(Protocol):
    """Each test image looks for others of its class among the other test images, by cosine.

    `recallK` is the share of images with one of their class among the K nearest, `map_at_r` the mean average precision
    among as many neighbours as there are others of the class, `nmi` how well k-means agrees with the classes.

    Source: Musgrave et al. 2020 (arXiv:2003.08505), section 3.2.
    """

    ranks: Annotated[tuple[int, ...], every(positive)] = (1, 2, 4, 8)  # K

    needs = ("labels",)

    def check(self, subject):
        looked = subject.samples.test or subject.samples.bank
        labels = np.asarray(looked.images.labels)
        if max(np.bincount(labels[labels >= 0]), default=0) < 2:
            raise UserError(
                f"the protocol retrieval looks for images of one class, and {looked.images.name} has none that is not "
                "alone in its class; name other images with --data"
            )

    def __call__(self, subject: Subject) -> Result:
        bank, test = subject.features()
        looked = bank if test is None else test
        label, position = map(np.asarray, parallel.gather((looked.label, looked.position)))
        known = (label >= 0) & (position >= 0)
        others = np.where(known, np.bincount(label[known], minlength=len(subject.classes))[label] - 1, 0)
        asked = known & (others > 0)  # an image that is alone in its class can find nothing

        most = max(*self.ranks, int(others.max()))
        valid = looked._replace(position=jnp.where(looked.label >= 0, looked.position, -1))
        _, labels, _ = nearest(Pair(valid, None), most, subject.mesh)
        hits = (np.asarray(parallel.gather(labels)) == label[:, None])[asked]
        result = scored("map_at_r", average_precision(hits, others[asked]))
        recalls = {f"recall{k}": 100 * float(np.mean(hits[:, :k].any(axis=1))) for k in self.ranks}
        return result._replace(numbers=result.numbers | recalls | {"nmi": nmi(looked, known, len(subject.classes))})


def average_precision(hits: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Returns the average precision at R of queries [N], in [0, 1].

    Args:
        hits: bool [N, K], whether a neighbour is relevant, from the nearest.
        relevant: int [N], R, how many relevant ones there are; at most K.
    """
    rank = np.arange(1, hits.shape[1] + 1)
    precision = np.cumsum(hits, axis=1) / rank
    return np.sum(precision * hits * (rank <= relevant[:, None]), axis=1) / relevant


def nmi(features: Features, known: np.ndarray, classes: int) -> float:
    """Returns in percent the normalised mutual information of classes and clusters of unit features."""
    points = jnp.asarray(parallel.gather(l2_normalize(features.x)))[known]
    start = points[np.random.default_rng(0).permutation(len(points))[:classes]]
    _, clusters = losses.spherical_kmeans(points, start, ITERATIONS)
    return 100 * agreement(parallel.gather(features.label)[known], np.asarray(clusters))["v_measure"]
