"""Features of one network at several image sizes: how accurate they are, and how much they agree."""

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from ssl_jax import parallel
from ssl_jax.evaluate.features import Features
from ssl_jax.evaluate.knn import top1, weighted_knn
from ssl_jax.evaluate.protocols import Settings
from ssl_jax.numeric import l2_normalize

Pair = tuple[Features, Features]  # of the bank and of the test sample


def across_sizes(
    reference: Pair, others: Iterable[tuple[int, Pair]], settings: Settings, mesh: jax.sharding.Mesh
) -> list[dict[str, float]]:
    """Compares features of the same images at several sizes with those at the size of evaluation.

    Args:
        reference: the features at `data.size`.
        others: size in pixels and the features there.
        settings: of k-NN.
        mesh: the devices.

    Returns:
        One row per size, its accuracies and shares in percent:
            size: pixels.
            knn_top1: accuracy with the bank at this size too.
            fixed_bank_top1: accuracy of images at this size with the bank at the reference size.
            agreement: share of test images with the same prediction as at the reference size, given its bank.
            cosine: mean cosine between the features of an image at both sizes, in [-1, 1].
    """
    votes = settings.classes, settings.neighbours, settings.temperature

    def predictions(bank: Features, test: Features) -> Any:
        found = weighted_knn(bank.x, bank.label, test.x, *votes, bank.position >= 0, mesh)
        return parallel.gather((jnp.where(test.position >= 0, found, -1), test.label))

    bank, test = reference
    expected, _ = predictions(bank, test)
    rows = []
    for size, (own_bank, own_test) in others:
        found, labels = predictions(bank, own_test)
        rows.append(
            {
                "size": size,
                "knn_top1": top1(*predictions(own_bank, own_test)),
                "fixed_bank_top1": top1(found, labels),
                "agreement": top1(found, expected),
                "cosine": float(cosine(mesh)(own_test.x, test.x, test.position >= 0)),
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
