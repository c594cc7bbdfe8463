"""How features are spread, without a classifier: signs of collapse, and how classes lie."""

import dataclasses
from typing import Annotated

import jax
import numpy as np

from ssl_jax import parallel
from ssl_jax.errors import UserError
from ssl_jax.evaluate.features import leading
from ssl_jax.evaluate.result import Protocol, Result
from ssl_jax.evaluate.spectrum import alignment, rankme, uniformity
from ssl_jax.evaluate.subject import Subject
from ssl_jax.evaluate.sweep import random_crops
from ssl_jax.fields import Rule
from ssl_jax.numeric import l2_normalize, widen

SEVERAL = Rule(lambda count: count > 1, "2 or more")


@dataclasses.dataclass(frozen=True)
class Health(Protocol):
    """The spread of the features of training images.

    `rank` is RankMe, `alignment` the mean squared distance of two random crops of an image and `uniformity` the
    logarithm of the mean Gaussian potential of pairs of images, both on the sphere; `spectrum` has the shares of the
    variance of the first principal components, `components_for_90` how many of them hold 90 %. With labels, `cohesion`
    is the mean cosine of images of a class, and `separation` that of images of different classes.

    Source: Garrido et al. 2023 (arXiv:2210.02885); Wang and Isola 2020 (arXiv:2005.10242).
    """

    images: Annotated[int, SEVERAL] = 2048  # of the bank, from its start

    needs = ()

    def check(self, subject):
        bank = subject.samples.bank
        if len(bank) < 2:
            raise UserError(
                f"the protocol health needs two images or more, and {bank.images.name} has {len(bank)}; name others "
                "with --data"
            )

    def __call__(self, subject: Subject) -> Result:
        bank = subject.features().bank
        count = min(self.images, len(subject.samples.bank))
        x = widen(leading(subject.mesh, bank.x, count))
        sphere = l2_normalize(x)
        crops = (crop[subject.chosen].x for crop in random_crops(subject, copies=2))
        one, other = (l2_normalize(leading(subject.mesh, crop, count)) for crop in crops)
        shares = spectrum(x)
        numbers = {
            "rank": float(rankme(x)),
            "alignment": float(alignment(one, other)),
            "uniformity": float(uniformity(sphere)),
            "components_for_90": int(np.searchsorted(np.cumsum(shares), 0.9 - 1e-6) + 1),
            "dimensions": x.shape[1],
            "images": count,
            "spectrum": shares.tolist(),
        }
        if subject.classes:
            numbers |= cohesion(np.asarray(sphere), np.asarray(parallel.gather(bank.label))[:count], subject.classes)
        return Result(numbers)


def spectrum(x: jax.Array) -> np.ndarray:
    """Returns the share of the variance of features [N, D] in each principal direction, falling: [min(N, D)]."""
    rows = np.asarray(x, float)
    centred = rows - rows.mean(axis=0)
    product = centred @ centred.T if len(x) < x.shape[1] else centred.T @ centred
    values = np.maximum(np.linalg.eigvalsh(product)[::-1], 0)
    return values / max(values.sum(), np.finfo(float).tiny)


def cohesion(x: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> dict:
    """Returns mean cosines of unit features [N, D]: of images of one class, by class and over all, and of two classes.

    An image is not compared with itself. A mean of cosines is a product of sums, so no pair is formed.
    """
    members = np.eye(len(classes))[labels[labels >= 0]].T  # [C, n]
    sums, counts = members @ x[labels >= 0], members.sum(1)
    within = (np.sum(sums**2, axis=1) - counts) / np.maximum(counts * (counts - 1), 1)
    total = sums.sum(0)
    across = (total @ total - np.sum(sums**2)) / max(counts.sum() ** 2 - np.sum(counts**2), 1)
    by_class = {name: float(value) for name, value, n in zip(classes, within, counts, strict=True) if n > 1}
    mean = {"cohesion": float(np.mean(list(by_class.values())))} if by_class else {}
    return mean | {"separation": float(across), "classes": by_class}
