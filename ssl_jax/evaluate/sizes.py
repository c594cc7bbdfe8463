"""Features of one network at several image sizes: how accurate they are, and how much they agree."""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax import parallel
from ssl_jax.evaluate.features import Features
from ssl_jax.evaluate.knn import Votes, top1, weighted_knn
from ssl_jax.evaluate.linear import linear_probe
from ssl_jax.numeric import l2_normalize

Pair = tuple[Features, Features]  # of the bank and of the test sample


class AtSize(NamedTuple):
    """Features at one image size."""

    size: int  # pixels
    features: Pair
    adapted: Pair  # with running statistics of BatchNorm that were estimated at this size


def across_sizes(
    reference: Pair, others: Iterable[AtSize], votes: Votes, mesh: jax.sharding.Mesh
) -> list[dict[str, float]]:
    """Compares features of the same images at several sizes with those at the size of evaluation.

    Args:
        reference: the features at `data.size`.
        others: the features at other sizes.
        votes: of k-NN.
        mesh: the devices.

    Returns:
        One row per size, its accuracies and shares in percent:
            size: pixels.
            knn_top1: accuracy with the bank at this size too.
            fixed_bank_top1: accuracy of images at this size with the bank at the reference size.
            agreement: share of test images with the same prediction as at the reference size, given its bank.
            cosine: mean cosine between the features of an image at both sizes, in [-1, 1].
            fixed_linear_top1: accuracy of the linear classifier that was fitted at the reference size.
            fixres_top1: accuracy of one fitted at this size, with running statistics estimated at this size: both last
                layers that FixRes adapts (Touvron et al. 2019, arXiv:1906.06423, section 4).
    """

    def linear(bank: Features, test: Features) -> float:
        labels, test_labels = parallel.gather((bank.label, test.label))
        return linear_probe(bank.x, labels, test.x, test_labels, votes.classes)

    def predictions(bank: Features, test: Features) -> Any:
        found = weighted_knn(bank.x, bank.label, test.x, *votes, bank.position >= 0, mesh)
        return parallel.gather((jnp.where(test.position >= 0, found, -1), test.label))

    bank, test = reference
    expected, _ = predictions(bank, test)
    rows = []
    for size, (own_bank, own_test), adapted in others:
        found, labels = predictions(bank, own_test)
        rows.append(
            {
                "size": size,
                "knn_top1": top1(*predictions(own_bank, own_test)),
                "fixed_bank_top1": top1(found, labels),
                "agreement": top1(found, expected),
                "cosine": float(cosine(mesh)(own_test.x, test.x, test.position >= 0)),
                "fixed_linear_top1": linear(bank, own_test),
                "fixres_top1": linear(*adapted),
            }
        )
    return rows


@functools.cache
def cosine(mesh: jax.sharding.Mesh):
    """Returns a compiled function: the mean cosine of rows of two arrays [N, D], over rows that a bool [N] marks."""

    def mean(a, b, valid):
        own = jnp.sum(l2_normalize(a) * l2_normalize(b), axis=-1)
        return jnp.mean(own, where=valid)

    return jax.jit(mean, out_shardings=parallel.replicated(mesh))
