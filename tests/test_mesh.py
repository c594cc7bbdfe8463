"""The compiled step on eight devices: which data are communicated, which buffers are reused."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_methods import KINDS, ROOT, overrides

from ssl_jax import parallel
from ssl_jax.build import build
from ssl_jax.config import load
from ssl_jax.trainer import Trainer

BATCH, SIZE = 32, 16


@pytest.fixture(scope="module", params=KINDS)
def compiled(request):
    """The optimised program of a run's whole step, images to new state, on eight devices; and the run."""
    changes = [*overrides(request.param), ("batch_size", str(BATCH)), ("data.device_bytes", "0")]
    if request.param in ("moco_v2", "swav"):
        changes.append(("method.queue_size", "640"))  # no other array has as many rows
    run = build(load(str(ROOT / "configs" / f"{request.param}.py"), changes))
    trainer = Trainer(run, parallel.make_mesh())
    rows = parallel.batch_sharding(trainer.mesh)
    images = {
        "image": jax.ShapeDtypeStruct((BATCH, SIZE, SIZE, 3), jnp.uint8, sharding=rows),
        "box": jax.ShapeDtypeStruct((BATCH, 4), jnp.int32, sharding=rows),
        "label": jax.ShapeDtypeStruct((BATCH,), jnp.int32, sharding=rows),
        "index": jax.ShapeDtypeStruct((BATCH,), jnp.int32, sharding=rows),
    }
    lowered = trainer.programs[0].lower(trainer.abstract, images, None, trainer.key)
    return run, trainer, lowered.compile().as_text()


def collectives(text, kind):
    """The shapes that a kind of collective produces in a program."""
    lines = re.findall(rf"= (.*?) {kind}(?:-start)?\(", text)
    return [
        tuple(map(int, filter(None, shape.split(",")))) for line in lines for shape in re.findall(r"\[([\d,]*)\]", line)
    ]


def test_images_are_never_gathered(compiled):
    _, _, text = compiled
    for kind in ("all-gather", "all-to-all", "collective-permute"):
        for shape in collectives(text, kind):
            assert np.prod(shape) < BATCH * SIZE * SIZE * 3, f"{kind} of {shape}"


def test_every_buffer_of_the_state_is_reused(compiled):
    _, trainer, text = compiled
    aliased = re.search(r"input_output_alias=\{(.*?)\}, entry", text).group(1)
    state = [leaf for leaf in jax.tree.leaves(trainer.abstract) if leaf.size]
    assert aliased.count("-alias") >= len(state)


def memories(run, trainer):
    """Each memory of a run and the axis of its rows."""
    state = trainer.abstract.state
    return [
        (name, getattr(state, name), axis)
        for axis, names in enumerate((run.method.memories, run.method.queues))
        for name in names
    ]


def test_memories_are_split_over_the_devices(compiled):
    run, trainer, _ = compiled
    for name, memory, axis in memories(run, trainer):
        share = list(memory.shape)
        share[axis] //= 8
        assert memory.sharding.shard_shape(memory.shape) == tuple(share), name
    assert memories(run, trainer) or not {"bank", "queue"} & set(trainer.abstract.state._fields)


def test_memories_are_never_gathered(compiled):
    run, trainer, text = compiled
    for name, memory, _ in memories(run, trainer):
        for shape in collectives(text, "all-gather"):
            assert len(memory) not in shape, f"{name}: all-gather of {shape}"


def test_nothing_as_large_as_a_memory_travels(compiled):
    run, trainer, text = compiled
    kinds = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
    moved = [int(np.prod(shape)) for kind in kinds for shape in collectives(text, kind)]
    for name, memory, _ in memories(run, trainer):
        assert max(moved) < memory.size, name


def test_nothing_leaves_for_the_host_inside_a_step(compiled):
    _, _, text = compiled
    for transfer in (
        "outfeed",
        "infeed",
        "send(",
        "recv(",
        "xla_python_cpu_callback",
        'custom_call_target="xla_ffi_python',
    ):
        assert transfer not in text


def test_simclr_gathers_projections_and_keeps_its_rows(compiled):
    run, _, text = compiled
    if run.config.method.name != "simclr":
        return
    gathered = collectives(text, "all-gather")
    width = run.config.network.projector.output
    assert gathered and set(gathered) <= {(2 * BATCH, width), (width, 2 * BATCH), (BATCH, 2, width)}
    similarities = {
        tuple(map(int, m)) for m in re.findall(r"= f32\[(\d+),(\d+)\]\S* (?:dot|fusion|custom-call)\(", text)
    }
    assert (2 * BATCH // jax.device_count(), 2 * BATCH) in similarities
    assert (2 * BATCH, 2 * BATCH) not in similarities


def test_the_test_can_see_a_gather():
    """The assertion above can fail: its pattern finds the gather in a program that gathers images."""
    mesh = parallel.make_mesh()
    images = jax.ShapeDtypeStruct((BATCH, SIZE, SIZE, 3), jnp.float32, sharding=parallel.batch_sharding(mesh))
    text = jax.jit(lambda x: x * 2, out_shardings=parallel.replicated(mesh)).lower(images).compile().as_text()
    assert (BATCH, SIZE, SIZE, 3) in collectives(text, "all-gather")


@pytest.mark.parametrize("count", [1, 8])
def test_a_process_alone_has_all_rows(count):
    mesh = parallel.make_mesh(jax.devices()[:count])
    np.testing.assert_array_equal(parallel.local_rows(mesh, 16), np.arange(16))


def test_rows_that_the_devices_cannot_share_evenly():
    with pytest.raises(ValueError, match="evenly divide"):
        parallel.local_rows(parallel.make_mesh(), 12)
