"""The table of evaluation protocols."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax import parallel
from ssl_jax.evaluate.features import Features
from ssl_jax.evaluate.knn import top1, weighted_knn
from ssl_jax.evaluate.linear import linear_probe
from ssl_jax.evaluate.probe import Probe, predict
from ssl_jax.evaluate.spectrum import rankme

RANKED = 8192  # rows of the bank, enough to estimate the effective rank


class Settings(NamedTuple):
    """The settings of protocols."""

    classes: int
    neighbours: int = 20  # that vote
    temperature: float = 0.07  # of their votes
    probe: Probe | None = None  # the online probe, part of the training state


Protocol = Callable[[Features, Features, Settings, jax.sharding.Mesh], dict[str, float]]


def knn(bank: Features, test: Features, settings: Settings, mesh: jax.sharding.Mesh) -> dict[str, float]:
    """Returns `knn_top1` in percent, the accuracy of weighted k-NN; the search is split over the devices."""
    votes = settings.classes, settings.neighbours, settings.temperature
    return accuracy("knn_top1", weighted_knn(bank.x, bank.label, test.x, *votes, bank.position >= 0, mesh), test)


def linear(bank: Features, test: Features, settings: Settings, mesh: jax.sharding.Mesh) -> dict[str, float]:
    """Returns `linear_top1` in percent, the accuracy of logistic regression fitted to the bank."""
    labels, test_labels = parallel.gather((bank.label, test.label))
    return {"linear_top1": linear_probe(bank.x, labels, test.x, test_labels, settings.classes)}


def rank(bank: Features, test: Features | None, settings: Settings, mesh: jax.sharding.Mesh) -> dict[str, float]:
    """Returns `rank` in [1, D], the effective rank of the first 8192 rows of the bank."""
    count = min(RANKED, int(np.sum(parallel.gather(bank.position) >= 0)))
    return {"rank": float(rankme(jnp.asarray(parallel.gather(head(mesh, count)(bank.x)))))}


def online_probe(bank: Features, test: Features, settings: Settings, mesh: jax.sharding.Mesh) -> dict[str, float]:
    """Returns `probe_top1` in percent, the accuracy of the online probe on backbone features."""
    return accuracy("probe_top1", jax.jit(predict)(settings.probe, test.x), test)


PROTOCOLS: dict[str, Protocol] = {"knn": knn, "linear": linear, "rank": rank, "online_probe": online_probe}


def accuracy(name: str, predicted: jax.Array, test: Features) -> dict[str, float]:
    """Returns {name: the top-1 accuracy in percent of predictions [N] for test features}."""
    return {name: top1(*parallel.gather((predicted, test.label)))}


@functools.cache
def head(mesh: jax.sharding.Mesh, count: int):
    """Returns a compiled function that replicates the first `count` rows of an array on every device."""
    return jax.jit(lambda x: x[:count], out_shardings=parallel.replicated(mesh))
