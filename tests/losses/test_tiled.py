"""Losses over pairs of rows in tiles, on one device and round a ring of eight, against all pairs at once."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax import losses, parallel
from ssl_jax.losses import pairs
from ssl_jax.numeric import l2_normalize, widen
from ssl_jax.parallel import ring

ROWS, SIZE, TILE = 40, 8, 32  # five rows a device meet others in tiles of at most six
LABEL = jnp.arange(ROWS) % 5 // 2  # classes of different sizes


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def unit(x):
    return l2_normalize(x)


def nt_xent(projection):
    return losses.nt_xent(projection, 0.1)


def bank():
    return unit(normal(9, 130, SIZE))


LOSSES = {
    "nt_xent": (nt_xent, [(ROWS, 2, SIZE)]),
    "nt_xent of three views": (lambda z: losses.nt_xent(z, 0.5), [(ROWS, 3, SIZE)]),
    "info_nce": (lambda q, k, n: losses.info_nce(unit(q), unit(k), unit(n), 0.2, True), [(ROWS, SIZE)] * 2 + [(90, 8)]),
    "info_nce_pairs": (lambda q, k: losses.info_nce_pairs(unit(q), unit(k), 0.2), [(ROWS, SIZE)] * 2),
    "softmax": (lambda a, b, s: losses.image_text_softmax(unit(a), unit(b), jnp.exp(s)), [(ROWS, SIZE)] * 2 + [()]),
    "sigmoid": (
        lambda a, b, s, t: losses.image_text_sigmoid(unit(a), unit(b), jnp.exp(s), t),
        [(ROWS, SIZE)] * 2 + [()] * 2,
    ),
    "instance_softmax": (
        lambda x: losses.instance_softmax(unit(x), bank(), jnp.arange(ROWS), 0.1, 120),
        [(ROWS, SIZE)],
    ),
    "supervised_contrastive": (
        lambda x: jnp.mean(losses.supervised_contrastive(unit(x), LABEL, 0.1)),
        [(ROWS, SIZE)],
    ),
}
EACH = pytest.mark.parametrize(("loss", "shapes"), LOSSES.values(), ids=LOSSES)


@pytest.fixture
def tiled(monkeypatch):
    """Makes all losses go in tiles of a few pairs."""

    def switch(tile=TILE):
        monkeypatch.setattr(pairs, "PLAIN", 0)
        monkeypatch.setattr(ring, "TILE", tile)

    return switch


def inputs(shapes):
    return [normal(seed, *shape) for seed, shape in enumerate(shapes)]


def close(ours, expected):
    """Asserts that loss and gradients agree to 1e-6 of their size."""
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * float(jnp.max(jnp.abs(b))))


def gradient(loss, arrays):
    return jax.value_and_grad(loss, tuple(range(len(arrays))))


@EACH
def test_tiles_give_the_loss_and_gradient_of_all_pairs(loss, shapes, tiled):
    arrays, mesh = inputs(shapes), parallel.make_mesh()
    expected = jax.jit(gradient(loss, arrays))(*arrays)
    tiled()
    close(jax.jit(gradient(loss, arrays))(*arrays), expected)
    split, whole = parallel.batch_sharding(mesh), parallel.replicated(mesh)
    places = tuple(split if array.ndim and len(array) % mesh.size == 0 else whole for array in arrays)
    program = jax.jit(parallel.with_mesh(mesh, gradient(loss, arrays)), in_shardings=places)
    close(program(*arrays), expected)


def test_rows_that_devices_cannot_share_evenly(tiled):
    projection, mesh = normal(0, 13, 2, SIZE), parallel.make_mesh()
    expected = jax.jit(gradient(nt_xent, [projection]))(projection)
    tiled()
    program = jax.jit(parallel.with_mesh(mesh, gradient(nt_xent, [projection])), in_shardings=parallel.replicated(mesh))
    close(program(projection), expected)


def test_half_precision_is_widened_first(tiled):
    projection = normal(0, ROWS, 2, SIZE).astype(jnp.bfloat16)
    loss, slope = jax.jit(jax.value_and_grad(nt_xent))(projection)
    tiled()
    ours, our_slope = jax.jit(jax.value_and_grad(nt_xent))(projection)
    assert ours.dtype == jnp.float32 and our_slope.dtype == jnp.bfloat16
    np.testing.assert_allclose(ours, loss, rtol=1e-6)
    np.testing.assert_allclose(widen(our_slope), widen(slope), rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("devices", [1, 8])
def test_no_device_has_more_than_a_tile_of_the_pairs(devices, tiled):
    images, tile = 512, 4096
    mesh = parallel.make_mesh(jax.devices()[:devices])
    rows = parallel.batch_sharding(mesh)
    views = jax.ShapeDtypeStruct((images, 2, SIZE), jnp.float32)
    tiled(tile)
    program = jax.jit(
        parallel.with_mesh(mesh, jax.value_and_grad(nt_xent)), in_shardings=rows, out_shardings=(None, rows)
    )
    text = program.lower(views).compile().as_text()
    sizes = [np.prod([int(x) for x in shape.split(",")]) for shape in re.findall(r"\w+\[([\d,]+)\]", text)]
    assert tile <= max(sizes) <= max(tile, 2 * images // devices * 2 * SIZE)
    assert devices == 1 or ("collective-permute" in text and "all-gather" not in text)


def test_a_match_that_is_almost_certain_keeps_its_digits():
    """Logits of 60 and 0: as a difference of float32 numbers near 60, the loss would be 0."""
    rows = jnp.eye(4)
    np.testing.assert_allclose(jax.jit(losses.image_text_softmax)(rows, rows, 60.0), 3 * np.exp(-60.0), rtol=1e-5)
