"""Queues keep the rows of the last steps, on the devices that computed them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from ssl_jax import parallel
from ssl_jax.errors import UserError
from ssl_jax.losses import info_nce
from ssl_jax.memory import empty_queue, push, queue_rows, random_queue
from ssl_jax.numeric import as_rows


def test_a_queue_holds_the_rows_of_the_last_steps():
    queue = empty_queue(12, 4, (2,))
    pushed = [np.full((4, 2), step, np.float32) for step in range(8)]
    for step, rows in enumerate(pushed):
        queue = push(queue, jnp.asarray(rows), jnp.int32(step))
    assert sorted(np.asarray(queue_rows(queue))[:, 0].tolist()) == sorted(np.concatenate(pushed[-3:])[:, 0].tolist())


def test_random_rows_have_unit_length_and_differ():
    rows = np.asarray(queue_rows(random_queue(jax.random.key(0), 12, 5, 4)))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    assert len(np.unique(rows[:, 0])) == 12


@pytest.mark.parametrize(("size", "fits"), [(3, "4"), (10, "8 or 12"), (0, "4")])
def test_a_size_that_steps_do_not_fill_is_refused_with_those_that_they_do(size, fits):
    with pytest.raises(
        UserError, match=rf"method\.queue_size is {size}.*not a multiple of the 4 rows.*set it to {fits}$"
    ):
        random_queue(jax.random.key(0), size, 5, 4)


def test_no_queue_stays_none():
    queue = empty_queue(0, 4, (2,))
    assert push(queue, jnp.ones((4, 2)), jnp.int32(3)).shape == (0, 4, 2)


def collectives(text):
    return re.findall(r"= .*? (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)\S*\(", text)


def test_pushing_moves_nothing_between_devices():
    mesh = parallel.make_mesh()
    split = NamedSharding(mesh, PartitionSpec(None, parallel.ROWS))
    queue = jax.ShapeDtypeStruct((4, 16, 8), jnp.float32, sharding=split)
    rows = jax.ShapeDtypeStruct((16, 8), jnp.float32, sharding=parallel.batch_sharding(mesh))
    program = jax.jit(push, out_shardings=split, donate_argnums=0).lower(queue, rows, jnp.int32(0)).compile()
    assert collectives(program.as_text()) == []
    assert "may-alias" in program.as_text() or "must-alias" in program.as_text()  # in place

    def loss(queue, rows):
        return info_nce(rows, rows, queue_rows(queue), 0.2)

    text = jax.jit(loss).lower(queue, rows).compile().as_text()
    gathered = re.findall(r"= \w+\[([\d,]*)\]\S* all-gather", text)
    assert all(np.prod([int(n) for n in shape.split(",")]) < 4 * 16 * 8 for shape in gathered)


def test_pushing_two_views_moves_nothing_between_devices():
    """MoCo's symmetric variant; concatenating the views would move their rows."""
    mesh = parallel.make_mesh()
    split = NamedSharding(mesh, PartitionSpec(None, parallel.ROWS))
    queue = jax.ShapeDtypeStruct((4, 32, 8), jnp.float32, sharding=split)
    keys = [jax.ShapeDtypeStruct((16, 8), jnp.float32, sharding=parallel.batch_sharding(mesh))] * 2

    def program(join):
        compiled = jax.jit(lambda queue, *keys: push(queue, join(keys), jnp.int32(0)), out_shardings=split)
        return collectives(compiled.lower(queue, *keys).compile().as_text())

    assert program(lambda keys: as_rows(jnp.stack(keys, axis=1))) == []
    assert program(jnp.concatenate) != []


def test_a_flattened_queue_would_be_gathered_where_its_rows_are_not():
    """The order of `queue_rows` is what keeps the queue in place, with the gradient too."""
    mesh = parallel.make_mesh()
    split = NamedSharding(mesh, PartitionSpec(None, parallel.ROWS))
    queue = jax.ShapeDtypeStruct((4, 16, 8), jnp.float32, sharding=split)
    rows = jax.ShapeDtypeStruct((16, 8), jnp.float32, sharding=parallel.batch_sharding(mesh))

    def largest(flatten):
        gradient = jax.value_and_grad(lambda rows, queue: info_nce(rows, rows, flatten(queue), 0.2))
        text = jax.jit(gradient).lower(rows, queue).compile().as_text()
        gathered = re.findall(r"= \w+\[([\d,]*)\]\S* all-gather", text)
        return max(np.prod([int(n) for n in shape.split(",")]) for shape in gathered)

    assert largest(queue_rows) == 16 * 8
    assert largest(as_rows) == 4 * 16 * 8
