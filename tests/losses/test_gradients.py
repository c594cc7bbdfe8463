"""Every loss: its gradient against finite differences, and the same numbers on one device and on eight."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from ssl_jax.losses import (
    barlow_twins,
    covariance,
    cross_entropy,
    info_nce,
    info_nce_pairs,
    instance_softmax,
    invariance,
    margin_contrastive,
    multi_similarity,
    nce,
    negative_cosine_similarity,
    nt_xent,
    patch_info_nce,
    prototype_cross_entropy,
    proxy_anchor,
    proxy_nca,
    relational,
    sampled_scores,
    sinkhorn,
    squared_cosine_distance,
    supervised_contrastive,
    supervised_info_nce,
    swapped_prediction,
    triplet,
    variance,
)

IMAGES, SIZE, PROTOTYPES = 16, 6, 10


def swav(scores):
    codes = jax.vmap(lambda rows: sinkhorn(rows, 0.3, 3), 1, 1)(scores[:, :2])
    return swapped_prediction(codes, scores, 0.5)


def with_past(scores):
    """Codes where a queue helps to fill the prototypes."""
    return jnp.sum(sinkhorn(scores[:8], 0.3, 3, scores[8:], 0.5) ** 2)


LABEL = jnp.arange(IMAGES) % 4


def bank():
    """A memory of 24 images, of which 20 are in use."""
    return jax.random.normal(jax.random.key(1), (24, SIZE), float)


def sampled(x):
    return sampled_scores(x, bank(), jnp.arange(IMAGES * 5).reshape(IMAGES, 5) % 20, 2.0)


LOSSES = {
    "barlow_twins": (lambda x, y: barlow_twins(x, y, 0.1), [(IMAGES, SIZE)] * 2),
    "vicreg": (
        lambda x, y: invariance(x, y) + variance(x / 2) + covariance(y),
        [(IMAGES, SIZE)] * 2,
    ),
    "instance_softmax": (lambda x: instance_softmax(x, bank(), jnp.arange(IMAGES), 2.0, 20), [(IMAGES, SIZE)]),
    "nce": (lambda x: nce(sampled(x), 50.0, 20), [(IMAGES, SIZE)]),
    "patch_info_nce": (lambda p, t: patch_info_nce(p, t, bank()), [(IMAGES, SIZE)] * 2),
    "supervised_contrastive": (lambda x: jnp.mean(supervised_contrastive(x, LABEL, 2.0)), [(IMAGES, SIZE)]),
    "supervised_info_nce": (lambda x: supervised_info_nce(x, LABEL, 2.0), [(IMAGES, SIZE)]),
    **{
        f"triplet, {mining}": (lambda x, mining=mining: triplet(x, LABEL, 0.5, mining), [(IMAGES, SIZE)])
        for mining in ("all", "hard", "semihard", "batch_hard")
    },
    "margin_contrastive": (lambda x: margin_contrastive(x, LABEL, 3.0), [(IMAGES, SIZE)]),
    "multi_similarity": (lambda x: multi_similarity(x, LABEL, 2.0, 1.0, 0.5), [(IMAGES, SIZE)]),
    "proxy_nca": (lambda x, p: proxy_nca(x, LABEL, p, 0.5), [(IMAGES, SIZE), (8, SIZE)]),
    "proxy_anchor": (lambda x, p: proxy_anchor(x, LABEL, p, 0.1, 2.0), [(IMAGES, SIZE), (8, SIZE)]),
    "nt_xent": (lambda z: nt_xent(z, 0.3), [(IMAGES, 2, SIZE)]),
    "nt_xent of three views": (lambda z: nt_xent(z, 0.3), [(IMAGES, 3, SIZE)]),
    "info_nce": (lambda q, k: info_nce(q, k, jnp.eye(9, SIZE), 0.3), [(IMAGES, SIZE)] * 2),
    "info_nce of three views, with the batch's keys": (
        lambda q, k: info_nce(q, k, jnp.eye(9, SIZE), 0.3, in_batch=True),
        [(IMAGES, 3, SIZE), (IMAGES, SIZE)],
    ),
    "relational": (lambda x: relational(x, bank()[:IMAGES], bank()[IMAGES:], 0.5, 0.2), [(IMAGES, SIZE)]),
    "cross_entropy": (lambda x: cross_entropy(x, LABEL, 0.1), [(IMAGES, SIZE)]),
    "info_nce_pairs": (lambda q, k: info_nce_pairs(q, k, 0.3), [(IMAGES, SIZE)] * 2),
    "squared_cosine_distance": (lambda x, y: jnp.mean(squared_cosine_distance(x, y)), [(IMAGES, 2, SIZE)] * 2),
    "negative_cosine_similarity": (lambda x, y: jnp.mean(negative_cosine_similarity(x, y)), [(IMAGES, 2, SIZE)] * 2),
    "swapped_prediction": (swav, [(IMAGES, 3, PROTOTYPES)]),
    "sinkhorn with a past": (with_past, [(IMAGES, PROTOTYPES)]),
    "prototype_cross_entropy": (
        lambda s: prototype_cross_entropy(s, jnp.arange(IMAGES) % 5 - 1, 0.3),
        [(IMAGES, PROTOTYPES)],
    ),
}
EACH = pytest.mark.parametrize("loss, shapes", LOSSES.values(), ids=LOSSES)


def inputs(shapes):
    return [np.random.default_rng(seed).normal(size=shape) for seed, shape in enumerate(shapes)]


@EACH
def test_finite_differences(loss, shapes):
    with jax.enable_x64(True):
        check_grads(jax.jit(loss), [jnp.asarray(x) for x in inputs(shapes)], order=1, modes=["rev"], rtol=1e-5)


def sharding():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec("data"))


@EACH
def test_eight_devices_are_one(loss, shapes):
    arrays = [jnp.asarray(x, jnp.float32) for x in inputs(shapes)]
    gradient = jax.jit(jax.value_and_grad(loss, argnums=tuple(range(len(arrays)))))
    alone, together = gradient(*arrays), gradient(*jax.device_put(arrays, sharding()))
    assert len(together[0].devices()) == 8
    np.testing.assert_allclose(together[0], alone[0], rtol=1e-5)
    for ours, expected in zip(together[1], alone[1], strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)


def test_nt_xent_gathers_projections_and_each_device_computes_its_rows():
    gradient = jax.jit(jax.value_and_grad(lambda z: nt_xent(z, 0.1)), in_shardings=sharding())
    program = gradient.lower(jax.ShapeDtypeStruct((IMAGES, 2, SIZE), jnp.float32)).compile().as_text()
    gathered = re.findall(r"= (\w+\[[\d,]*\])\S* all-gather\(", program)
    rows = 2 * IMAGES
    assert gathered and set(gathered) <= {f"f32[{rows},{SIZE}]", f"f32[{SIZE},{rows}]"}
    assert f"f32[{rows // 8},{rows}]" in program and f"f32[{rows},{rows}]" not in program
