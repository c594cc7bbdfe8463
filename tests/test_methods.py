"""The contract that every method keeps, run over every shipped config with a tiny encoder."""

import argparse
import dataclasses
import importlib
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks import cifar10

from ssl_jax import parallel
from ssl_jax.build import build
from ssl_jax.checkpoint import Checkpoints
from ssl_jax.config import load
from ssl_jax.methods import METHODS
from ssl_jax.train import TrainState, initial_state, train_step

ROOT = pathlib.Path(__file__).parent.parent
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem != "base")
PRESETS = [
    (name, preset) for name in CONFIGS for preset in importlib.import_module(f"configs.{name}").get_config.presets
]
# One config for each kind of state and of pass: what takes whole runs or programs is tested on these.
KINDS = ("byol", "simclr", "moco_v2", "swav", "instdisc")
BATCH, STEPS = 16, 4
FAST = {"xla_backend_optimization_level": 0}  # tiny shapes: compiling takes longer than running

TINY = {
    "batch_size": str(BATCH),
    "steps": str(STEPS),
    "data.size": "16",
    "network.encoder.width": "0.0625",
    "optimizer.warmup": "0",
    "optimizer.schedule": "constant",
    "checkpoint.every": "2",
    "evaluate.every": "4",
    "evaluate.bank": "64",
    "evaluate.test": "64",
    "log.every": "1",
}
EXTRA = {
    "moco_v2": {"method.queue_size": "32"},
    "swav": {"method.queue_size": "32", "method.queue_from": "1", "network.predictor.prototypes": "12"},
    "deepcluster": {"method.every": "2", "method.prototypes": "4", "method.components": "8"},
    "deepcluster_v2": {"method.every": "2", "method.prototypes": "4"},
    "moco_v1": {"method.queue_size": "32"},
    "simclr_v2_queue": {"method.queue_size": "32"},
    "densecl": {"method.queue_size": "32", "method.dense_from": "0"},
    "nnclr": {"method.queue_size": "32"},
    "triplet": {"method.mining": "batch_hard"},  # the mean over semi-hard triplets alone need not fall
    "cpc": {"data.size": "40"},
    "cpc_v1": {"data.size": "40"},
    "crd": {"method.negatives": "64"},
    "infomin": {"method.queue_size": "32"},
    "cast": {"method.queue_size": "32"},
    "byol_group_norm": {"network.encoder.groups": "2"},
}
# Parameters that get no gradient, with the reason.
STILL: dict[str, set[str]] = {}
# Methods whose loss starts anew every so often, here at every second step, with their own test that it falls between.
RESTARTED = {"deepcluster"}


def overrides(name):
    return list((TINY | EXTRA.get(name, {})).items())


def read(text, changes, teacher):
    """A shipped config, with a teacher where its method asks for one."""
    config = load(str(ROOT / "configs" / text), changes)
    if "teacher" in config.method:
        config.method.teacher = str(teacher)
    return config


@pytest.fixture(scope="module", params=CONFIGS)
def run(request, teacher):
    return build(read(f"{request.param}.py", overrides(request.param), teacher))


@pytest.fixture(scope="module")
def step(run):
    """The step of a run, compiled once for all tests of a method; it counts how often it is traced."""

    def one(train, batch, key):
        jitted.traces += 1
        optimizer, _ = run.optimizer(train.params)
        return train_step(run.method, optimizer, train, batch, key)

    jitted = Counting(one)
    return jitted


class Counting:
    def __init__(self, function):
        self.traces = 0
        self.call = jax.jit(function, compiler_options=FAST)

    def __call__(self, *args):
        return self.call(*args)


def random_batch(run, seed=0):
    batch = run.example_batch(np.zeros)
    random = np.random.default_rng(seed)
    views = tuple(random.normal(size=view.shape).astype(np.float32) for view in batch["views"])
    label = random.integers(10, size=BATCH).astype(np.int32)
    masks = tuple(random.random(mask.shape, np.float32) for mask in batch.get("masks", ()))
    index = np.arange(BATCH, dtype=np.int32)
    return {"views": views, "label": label, "index": index} | ({"masks": masks} if masks else {})


@pytest.fixture(scope="module")
def state(run) -> TrainState:
    init = jax.jit(lambda key: initial_state(run, key, run.example_batch(jnp.zeros)), compiler_options=FAST)
    return init(jax.random.key(1))


def test_every_method_has_a_config():
    named = {load(str(ROOT / "configs" / f"{name}.py")).method.name for name in CONFIGS}
    assert named == set(METHODS)


def test_steps_are_finite_and_keep_the_state_s_form(run, step, state):
    train, before = state, step.traces
    for seed in range(3):
        train, metrics = step(train, random_batch(run, seed), jax.random.key(2))
        chex.assert_trees_all_equal_shapes_and_dtypes(train, state)
        chex.assert_tree_all_finite((train, metrics))
    assert int(train.step) == 3
    assert step.traces - before <= 1


def test_one_device_and_eight_agree(run, step, state):
    batch, key = random_batch(run), jax.random.key(2)
    mesh = parallel.make_mesh()
    spread = jax.device_put(batch, parallel.rows(mesh))
    everywhere = jax.device_put((state, key), parallel.replicated(mesh))
    alone, metrics = step(state, batch, key)
    together, metrics_together = step(everywhere[0], spread, everywhere[1])
    chex.assert_trees_all_close(metrics, jax.device_get(metrics_together), rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(alone.params, jax.device_get(together.params), rtol=1e-3, atol=1e-4)
    chex.assert_trees_all_close(alone.state, jax.device_get(together.state), rtol=1e-3, atol=1e-4)


def test_every_parameter_gets_a_gradient(run, step, state):
    for _ in range(2):  # what has to be remembered first is remembered then
        state, _ = step(state, random_batch(run), jax.random.key(2))

    def loss(params):
        return run.method.loss(params, state.state, random_batch(run), jax.random.key(2), state.step)[0]

    grads = jax.jit(jax.grad(loss), compiler_options=FAST)(state.params)
    flat = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(grads)}
    still = {path for path, leaf in flat.items() if not np.any(np.asarray(leaf))}
    assert still == STILL.get(run.config.method.name, set())


def test_loss_falls_on_a_fixed_batch(run, step, state):
    if run.config.method.name in RESTARTED:
        pytest.skip("its loss starts anew")
    batch, key, train = random_batch(run), jax.random.key(2), state
    losses = []
    for _ in range(25):
        train, metrics = step(train, batch, key)
        losses.append(float(metrics["loss"]))
    filled = losses[2:]  # a queue starts with random keys, which are easy to tell apart, a memory with nothing
    assert np.mean(filled[-3:]) < np.mean(filled[:3]) - 0.01


def test_a_restored_state_takes_the_same_step(run, step, state, tmp_path):
    batch, key = random_batch(run), jax.random.key(2)
    train, _ = step(state, batch, key)
    mesh = parallel.make_mesh(jax.devices()[:1])
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=parallel.replicated(mesh)), train)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, train)
        _, restored = checkpoints.restore(abstract)
    after, metrics = step(train, batch, key)
    chex.assert_trees_all_equal((after, metrics), step(jax.device_get(restored), batch, key))
    if "assignment" in train.state._fields:  # what clusters does so in the step after the restore
        assert np.all(np.asarray(train.state.assignment) == -1) and np.any(np.asarray(after.state.assignment) >= 0)


def test_features_depend_on_their_own_image_alone(run, state):
    images = jnp.asarray(random_batch(run)["views"][0][:, 0])
    features = jax.jit(run.method.features)
    together = features(state.params, state.state, images)
    chex.assert_shape(together, (BATCH, None))
    mixed = features(state.params, state.state, images.at[1:].set(0.0))
    np.testing.assert_allclose(together[0], mixed[0], rtol=1e-5, atol=1e-6)
    assert not np.allclose(together[1], mixed[1])


def test_hyper_parameters_are_printed_with_the_method(run):
    text = repr(run.method)
    assert all(field.name in text for field in dataclasses.fields(run.method))


@pytest.mark.parametrize(("name", "preset"), [pair for pair in PRESETS if pair[1]])
def test_published_presets_trace(name, preset, teacher):
    """The paper's own sizes: built, initialised and one step traced, without computing anything."""
    config = read(f"{name}.py:{preset}", (), teacher)
    sources = {"tfds:cifar10": (50_000, 10), "tfds:imagenet2012": (1_281_167, 1000)}
    sources |= {"folder:cifar10": (50_000, 10), "folder:coco": (118_287, 0)}
    source = sources[config.data.source]
    assert_traces(build(config, source=Counted(*source), test=Counted(100, source[1])))


def test_the_cifar10_table_has_a_row_for_each_config():
    assert set(cifar10.OWN) == set(CONFIGS)


@pytest.mark.parametrize("name", cifar10.OWN)
def test_rows_of_the_cifar10_table_trace(name, teacher):
    """A row runs for a quarter of an hour and the table for hours: none shall stop at a setting that does not fit."""
    flags = argparse.Namespace(data="DIR", out=pathlib.Path("runs"), seed=0)
    changes = cifar10.changes(name, flags)
    assert changes["data.source"] == ("folder:runs/salient" if name == "cast" else "folder:DIR")
    assert changes.get("method.teacher", "runs/simclr") == "runs/simclr"
    assert_traces(
        build(read(f"{name}.py", changes.items(), teacher), source=Counted(50_000, 10), test=Counted(10_000, 10))
    )


def assert_traces(run):
    """The first state and one step of a run trace at its own sizes, and the step keeps the state's shapes."""
    batch = run.example_batch()
    shapes = jax.eval_shape(lambda key: initial_state(run, key, run.example_batch(jnp.zeros)), jax.random.key(0))

    def one(train, batch, key):
        optimizer, _ = run.optimizer(train.params)
        return train_step(run.method, optimizer, train, batch, key)

    after, metrics = jax.eval_shape(one, shapes, batch, jax.random.key(0))
    chex.assert_trees_all_equal_shapes_and_dtypes(after, shapes)
    assert metrics["loss"].shape == ()


class Counted:
    """A source of so many images, none of which is ever read."""

    name = "counted"

    def __init__(self, size, classes):
        self.size, self.classes = size, tuple(map(str, range(classes)))
        self.labels = np.arange(size) % max(classes, 1)

    def __len__(self):
        return self.size
