"""Every loss: its gradient against finite differences, and the same numbers on one device and on eight."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from ssl_jax.losses import (
    info_nce,
    info_nce_pairs,
    negative_cosine_similarity,
    nt_xent,
    prototype_cross_entropy,
    sinkhorn,
    squared_cosine_distance,
    swapped_prediction,
)

IMAGES, SIZE, PROTOTYPES = 16, 6, 10


def swav(scores):
    codes = jax.vmap(lambda rows: sinkhorn(rows, 0.3, 3), 1, 1)(scores[:, :2])
    return swapped_prediction(codes, scores, 0.5)


def uneven(scores):
    """Codes where some rows weigh less, and some nothing."""
    weights = jnp.linspace(-0.5, 1, IMAGES).clip(0)
    return jnp.sum(sinkhorn(scores, 0.3, 3, weights) ** 2)


LOSSES = {
    "nt_xent": (lambda z: nt_xent(z, 0.3), [(IMAGES, 2, SIZE)]),
    "nt_xent of three views": (lambda z: nt_xent(z, 0.3), [(IMAGES, 3, SIZE)]),
    "info_nce": (lambda q, k: info_nce(q, k, jnp.eye(9, SIZE), 0.3), [(IMAGES, SIZE)] * 2),
    "info_nce_pairs": (lambda q, k: info_nce_pairs(q, k, 0.3), [(IMAGES, SIZE)] * 2),
    "squared_cosine_distance": (lambda x, y: jnp.mean(squared_cosine_distance(x, y)), [(IMAGES, 2, SIZE)] * 2),
    "negative_cosine_similarity": (lambda x, y: jnp.mean(negative_cosine_similarity(x, y)), [(IMAGES, 2, SIZE)] * 2),
    "swapped_prediction": (swav, [(IMAGES, 3, PROTOTYPES)]),
    "sinkhorn with weights": (uneven, [(IMAGES, PROTOTYPES)]),
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
        check_grads(loss, [jnp.asarray(x) for x in inputs(shapes)], order=1, modes=["rev"], rtol=1e-5)


def sharding():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec("data"))


@EACH
def test_eight_devices_are_one(loss, shapes):
    arrays = [jnp.asarray(x, jnp.float32) for x in inputs(shapes)]
    gradient = jax.value_and_grad(loss, argnums=tuple(range(len(arrays))))
    alone, together = gradient(*arrays), jax.jit(gradient)(*jax.device_put(arrays, sharding()))
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
