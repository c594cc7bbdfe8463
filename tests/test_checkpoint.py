"""Checkpoints come back bit for bit, on any mesh; damage is noticed, never read, and never in the way."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ssl_jax.checkpoint import ASIDE, Checkpoints, find_fault, steps
from ssl_jax.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent


class State(NamedTuple):
    step: jax.Array
    params: Any
    opt_state: Any
    queue: jax.Array
    unused: jax.Array
    nothing: tuple
    flag: jax.Array


def make(seed: int) -> State:
    key = jax.random.key(seed)
    params = {"dense": {"kernel": jax.random.normal(key, (16, 8)), "bias": jnp.zeros(8)}}
    optimizer = optax.chain(optax.clip(1.0), optax.adamw(1e-3))  # holds an EmptyState and a NamedTuple
    queue = jax.random.normal(key, (16, 4)).astype(jnp.bfloat16)
    return State(jnp.int32(seed), params, optimizer.init(params), queue, jnp.zeros((0, 3)), (), jnp.array(True))


def place(state: State, devices: int) -> State:
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",), axis_types=(AxisType.Auto,))
    split = {(16, 4): PartitionSpec("data")}
    return jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, split.get(x.shape, PartitionSpec()))), state)


def abstract(state: State) -> State:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def assert_identical(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())


def write(directory, *at: int) -> None:
    with Checkpoints(directory, keep=9, warn=no_warning) as checkpoints:
        for step in at:
            checkpoints.save(step, place(make(step), 1))


def no_warning(message):
    raise AssertionError(message)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A directory with the checkpoints of steps 1 and 2, to be copied."""
    directory = tmp_path_factory.mktemp("two")
    write(directory, 1, 2)
    return directory


@pytest.mark.parametrize("devices", [8, 4, 1])
def test_comes_back_bit_for_bit_on_any_number_of_devices(tmp_path, devices):
    state = place(make(7), 8)
    expected = abstract(place(make(0), devices))
    with Checkpoints(tmp_path, warn=no_warning) as checkpoints:
        assert checkpoints.restore(expected) is None
        checkpoints.save(7, state)
    with Checkpoints(tmp_path, warn=no_warning) as checkpoints:
        step, restored = checkpoints.restore(expected)
    assert step == 7
    assert_identical(jax.device_get(restored), jax.device_get(state))
    for array, wanted in zip(jax.tree.leaves(restored), jax.tree.leaves(expected), strict=True):
        assert array.sharding == wanted.sharding


def test_saves_the_state_of_its_step_though_its_buffers_are_donated_on(tmp_path):
    advance = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = jnp.zeros((1000, 1000))
    expected = {"x": jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)}
    with Checkpoints(tmp_path, warn=no_warning) as checkpoints:
        for step in range(1, 21):
            x = advance(x)
            if step == 10:
                checkpoints.save(step, {"x": x})
        _, restored = checkpoints.restore(expected)
    np.testing.assert_array_equal(restored["x"], 10)


def test_keeps_the_latest_and_the_best_also_across_a_restart(tmp_path):
    measured = {1: 50.0, 2: 70.0, 3: float("nan"), 4: 60.0, 5: None, 6: 65.0}
    for half in ((1, 2, 3), (4, 5, 6)):
        with Checkpoints(tmp_path, keep=2, warn=no_warning) as checkpoints:
            for step in half:
                metrics = {"loss": 1.0} if measured[step] is None else {"loss": 1.0, "knn_top1": measured[step]}
                checkpoints.save(step, {"x": jnp.ones(3)}, metrics)
            checkpoints.wait()
            assert checkpoints.best_step() == 2
    assert steps(tmp_path) == [2, 5, 6]


def test_a_step_already_saved_is_left_alone(tmp_path):
    x = jax.ShapeDtypeStruct((), jnp.float32, sharding=jnp.float32(0).sharding)
    with Checkpoints(tmp_path, warn=no_warning) as checkpoints:
        checkpoints.save(3, {"x": jnp.float32(1)})
        checkpoints.save(3, {"x": jnp.float32(2)})
        assert checkpoints.restore({"x": x}) == (3, {"x": 1})


def largest(directory: pathlib.Path, pattern: str) -> pathlib.Path:
    return max((path for path in directory.rglob(pattern) if path.is_file()), key=lambda path: path.stat().st_size)


def flip(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "one bit of the arrays": lambda path: flip(largest(path, "d/*")),
    "truncated": lambda path: os.truncate(largest(path, "d/*"), 100),
    "emptied": lambda path: os.truncate(largest(path, "_METADATA"), 0),
    "file deleted": lambda path: largest(path, "d/*").unlink(),
    "folder deleted": lambda path: shutil.rmtree(path / "default"),
    "seal deleted": lambda path: (path / "seal.json").unlink(),
    "seal garbled": lambda path: (path / "seal.json").write_text("{"),
    "only an empty folder": lambda path: [shutil.rmtree(path), path.mkdir()],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_latest_checkpoint_gives_way_to_the_one_before(two, tmp_path, damage):
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / "2")
    said = []
    with Checkpoints(tmp_path, warn=said.append) as checkpoints:
        step, state = checkpoints.restore(abstract(place(make(0), 1)))
        assert step == 1
        assert_identical(jax.device_get(state), jax.device_get(make(1)))
        checkpoints.save(2, place(make(2), 1))  # the damaged one is not in the way of its own step
    assert len(said) == 1
    assert "step 2 is damaged" in said[0]
    assert (tmp_path / ASIDE / "2").is_dir()
    assert steps(tmp_path) == [1, 2]
    assert find_fault(tmp_path / "2") is None


@pytest.mark.parametrize("damage", ["file deleted", "folder deleted", "seal deleted", "only an empty folder"])
def test_what_is_left_of_an_old_checkpoint_is_removed(two, tmp_path, damage):
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    DAMAGE[damage](tmp_path / "1")
    said = []
    with Checkpoints(tmp_path, keep=1, warn=said.append) as checkpoints:
        assert checkpoints.latest_step() == 2
    assert steps(tmp_path) == [2] and not (tmp_path / ASIDE).exists()
    assert len(said) == 1 and "step 1 was being deleted" in said[0]


def test_damaged_metrics_are_damage(tmp_path):
    with Checkpoints(tmp_path, warn=no_warning) as checkpoints:
        checkpoints.save(1, {"x": jnp.ones(3)}, {"knn_top1": 50.0})
        checkpoints.save(2, {"x": jnp.ones(3)}, {"knn_top1": 60.0})
    (tmp_path / "2/metrics/metrics").write_text("{")
    said = []
    with Checkpoints(tmp_path, warn=said.append) as checkpoints:
        assert checkpoints.latest_step() == checkpoints.best_step() == 1
    assert len(said) == 1


def test_nothing_but_damaged_checkpoints_is_an_error_that_stays(two, tmp_path):
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    flip(largest(tmp_path / "1", "d/*"))
    flip(largest(tmp_path / "2", "d/*"))
    said = []
    for _ in range(2):
        with pytest.raises(UserError, match=r"all checkpoints in .* are damaged"):
            Checkpoints(tmp_path, warn=said.append)
    assert len(said) == 2


def array(shape: tuple, dtype) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=jnp.float32(0).sharding)


OTHERS = {  # what differs from `make`, and what the error says of it
    "more": ({"nothing": {"scale": array((), jnp.float32)}}, "nothing/scale is not in"),
    "fewer": ({"params": {"dense": {"kernel": array((16, 8), jnp.float32)}}}, "params/dense/bias is only in"),
    "shape": ({"queue": array((32, 4), jnp.bfloat16)}, r"queue is bfloat16\[16, 4\] in .* bfloat16\[32, 4\] now"),
    "type": ({"step": array((), jnp.float32)}, r"step is int32\[\] in .* float32\[\] now"),
}


@pytest.mark.parametrize(("change", "message"), OTHERS.values(), ids=OTHERS)
def test_a_checkpoint_of_another_state_is_an_error_that_names_the_arrays(two, change, message):
    with Checkpoints(two, warn=no_warning) as checkpoints, pytest.raises(UserError, match=message):
        checkpoints.restore(abstract(place(make(0), 1))._replace(**change))
    assert steps(two) == [1, 2]


KILLED = """
import sys, jax, jax.numpy as jnp
from ssl_jax.checkpoint import Checkpoints
with Checkpoints(sys.argv[1], keep=3) as checkpoints:
    for step in range(1, 100):
        checkpoints.save(step, {"x": jnp.full((3000, 1000), step, jnp.float32)})
"""


def test_a_process_killed_while_it_saves_leaves_only_whole_checkpoints(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT)
    unfinished = []
    deadline = time.monotonic() + 60
    while not (steps(tmp_path) and unfinished) and time.monotonic() < deadline:
        unfinished = [path for path in tmp_path.glob("*.orbax-checkpoint-tmp") if path.name[0] != "1"]
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(tmp_path.glob("*-tmp")), "it was not killed in the middle of a save"
    expected = {"x": jax.ShapeDtypeStruct((3000, 1000), jnp.float32, sharding=jnp.float32(0).sharding)}
    with Checkpoints(tmp_path, warn=no_warning) as checkpoints:
        step, state = checkpoints.restore(expected)
        assert step == max(steps(tmp_path))
        np.testing.assert_array_equal(state["x"], step)
        checkpoints.save(step + 1, state)
    assert not list(tmp_path.glob("*-tmp"))


TWO_PROCESSES = """
import sys, jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ssl_jax.checkpoint import Checkpoints
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{sys.argv[3]}", 2, int(sys.argv[2]))
rows = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
x = jax.jit(lambda: jnp.arange(64.0).reshape(16, 4), out_shardings=rows)()
with Checkpoints(sys.argv[1]) as checkpoints:
    checkpoints.save(1, {"x": x})
    checkpoints.save(2, {"x": x})
"""


def test_several_processes_write_one_checkpoint(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = [
        subprocess.Popen([sys.executable, "-c", TWO_PROCESSES, str(tmp_path), rank, port], cwd=ROOT) for rank in "01"
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    expected = {"x": jax.ShapeDtypeStruct((16, 4), jnp.float32, sharding=place(make(0), 4).queue.sharding)}
    with Checkpoints(tmp_path, warn=no_warning) as checkpoints:
        step, state = checkpoints.restore(expected)
    assert step == 2
    np.testing.assert_array_equal(state["x"], np.arange(64.0).reshape(16, 4))
    flip(largest(tmp_path / "2" / "default" / "ocdbt.process_1", "d/*"))
    assert "ocdbt.process_1" in find_fault(tmp_path / "2")


def test_orbax_keeps_quiet(tmp_path, capfd, caplog):
    with Checkpoints(tmp_path, warn=no_warning) as checkpoints:
        checkpoints.save(1, {"x": jnp.ones(3)})
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
