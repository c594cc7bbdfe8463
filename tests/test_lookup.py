"""Products with rows of a memory: the same result on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_mesh import collectives

from ssl_jax import parallel

BATCH, ROWS, DIMENSION, DRAWN = 24, 80, 16, 33


@pytest.fixture(scope="module")
def arrays():
    keys = jax.random.split(jax.random.key(0), 3)
    vectors, memory = jax.random.normal(keys[0], (BATCH, DIMENSION)), jax.random.normal(keys[1], (ROWS, DIMENSION))
    return vectors, memory, jax.random.randint(keys[2], (BATCH, DRAWN), 0, ROWS)


def value_and_grad(vectors, memory, index):
    """Returns the products, and the gradient of a nonlinear sum of them."""
    found = parallel.sampled_dot_products(vectors, memory, index)
    return found, jax.grad(lambda vectors: jnp.sum(jnp.sin(parallel.sampled_dot_products(vectors, memory, index))))(
        vectors
    )


def test_products_and_gradients_are_those_of_numpy(arrays):
    vectors, memory, index = map(np.asarray, arrays)
    found, gradient = value_and_grad(*arrays)
    expected = np.einsum("bd,bkd->bk", vectors, memory[index])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(gradient, np.einsum("bk,bkd->bd", np.cos(expected), memory[index]), atol=1e-4)


def on_mesh(arrays, devices):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    placed = jax.device_put(arrays, parallel.batch_sharding(mesh))
    return jax.jit(parallel.with_mesh(mesh, value_and_grad)).lower(*placed).compile(), placed


@pytest.mark.parametrize("devices", [2, 8])
def test_split_memories_give_the_same(arrays, devices):
    program, placed = on_mesh(arrays, devices)
    for ours, whole in zip(program(*placed), value_and_grad(*arrays), strict=True):
        np.testing.assert_allclose(ours, whole, rtol=1e-5, atol=1e-5)


def test_no_rows_travel(arrays):
    program, _ = on_mesh(arrays, 8)
    text = program.as_text()
    moved = [shape for kind in ("all-gather", "all-reduce", "all-to-all") for shape in collectives(text, kind)]
    assert moved and max(map(np.prod, moved)) <= BATCH * DRAWN


def test_a_memory_that_cannot_be_split_is_read_whole(arrays):
    vectors, memory, index = arrays
    mesh = parallel.make_mesh()
    found = jax.jit(parallel.with_mesh(mesh, parallel.sampled_dot_products))(vectors, memory[:79], index % 79)
    np.testing.assert_allclose(
        found, parallel.sampled_dot_products(vectors, memory[:79], index % 79), rtol=1e-5, atol=1e-5
    )
