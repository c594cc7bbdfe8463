"""The contract of methods, tested on every shipped config with a tiny encoder."""

import argparse
import dataclasses
import importlib
import pathlib
import re

import chex
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks import cifar10

from ssl_jax import data, parallel
from ssl_jax.augment import Views
from ssl_jax.build import build
from ssl_jax.checkpoint import Checkpoints
from ssl_jax.config import load
from ssl_jax.errors import UserError
from ssl_jax.methods import METHODS
from ssl_jax.schema import method_class, network_names
from ssl_jax.trainer import Trainer, TrainState, train_step, untrained

ROOT = pathlib.Path(__file__).parent.parent
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem != "base")
PRESETS = [
    (name, preset) for name in CONFIGS for preset in importlib.import_module(f"configs.{name}").get_config.presets
]
# One config for each kind of state and of pass, for tests that need whole runs or programs.
KINDS = ("byol", "simclr", "moco_v2", "swav", "instdisc")
BATCH, STEPS = 16, 4

# Views without changes of colour, which are tested elsewhere and take as long to compile as a network.
BARE = {f"augment.{name}": "0" for name in ("jitter", "gray", "blur", "solarize", "randaugment")}
TINY = {
    "batch_size": str(BATCH),
    "steps": str(STEPS),
    "data.size": "16",
    "optimizer.warmup": "0",
    "optimizer.schedule": "constant",
    "checkpoint.every": "2",
    "evaluate.every": "4",
    "evaluate.bank": "64",
    "evaluate.test": "64",
    "log.every": "1",
}
# By the first word of an encoder's name.
SHALLOW = {"resnet": {"layers": (1, 1, 1, 1)}, "vit": {"depth": 2}}
TINY_ENCODERS = {
    "resnet": {"width": "0.125", "layers": "(1,)"},
    "vit": {"patch": "8", "size": "16", "dim": "12", "depth": "2", "heads": "2"},
}
TEXT = {"text.dim": "12", "text.heads": "2", "text.output": "8", "network.projector.output": "8", "data.context": "16"}
SLOW_CENTER = {"method.center_decay": "0.999"}  # else targets move away from the student at first
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
    "dino": {"augment.small_views": "1"} | SLOW_CENTER,
    "ibot": {"network.encoder.patch": "4", "augment.small_views": "1"} | SLOW_CENTER,
    # With small factors, images hardly differ at first, and the probe's normalisation shows the rounding.
    "dinov2": {
        "network.encoder.patch": "4",
        "network.encoder.layer_scale": "1",
        "augment.small_views": "1",
        "method.mask_group": "8",
    },
    "crd": {"method.negatives": "64"},
    "infomin": {"method.queue_size": "32"},
    "ressl": {"method.queue_size": "32"},
    "cast": {"method.queue_size": "32"},
    "byol_group_norm": {"network.encoder.groups": "2"},
    "mae": {"decoder.dim": "12", "decoder.depth": "1", "decoder.heads": "2"},
    "simmim": {"method.square": "8"},
    "ijepa": {
        "network.encoder.patch": "4",
        "predictor.dim": "12",
        "predictor.depth": "1",
        "predictor.heads": "2",
    },
    "clip": TEXT | {"text.depth": "1"},
    "detailclip": {
        **TEXT,
        "text.depth": "1",
        "network.encoder.patch": "4",
        "decoder.dim": "12",
        "decoder.heads": "2",
        "method.center_decay": "1",  # a centre that starts to move makes targets harder for a while
    },
    "clip_shared": TEXT,
    "slip": TEXT | {"text.depth": "1", "head.hidden": "16"},
}
# Parameters that get no gradient, with the reason.
LAST = {"['network']['predictor']['kernel']"}  # frozen in the first epoch
STILL = {
    "dino": LAST,
    "ibot": LAST,
    "dinov2": {
        f"['network']['{name}']['{leaf}']" for name in ("predictor", "dense_predictor") for leaf in ("kernel", "length")
    },
}
# Configs that take no small views, with what they say.
NO_SMALL_VIEWS = {
    "cpc": "are as many as its grid has",  # its views are patches of one crop
    "cpc_v1": "are as many as its grid has",
    "infomin": "are as many as its grid has",  # its small views are the pieces of a jigsaw
    "cmc": "contrasts the channels of one crop",
    **dict.fromkeys(("mae", "simmim", "ijepa"), "hides patches of one view"),
    "detailclip": "removes patches of large views alone",
}
# Methods whose loss starts anew periodically, here every second step; they have their own test that it falls.
RESTARTED = {"deepcluster"}


def kind_of(encoder):
    return re.match("[a-z]+", encoder).group()


def overrides(name, **more):
    """Returns what makes a shipped config tiny, by key; `more` takes precedence."""
    config = load(str(ROOT / "configs" / f"{name}.py"))
    encoders = {f"{network}.encoder": config[network].encoder.name for network in network_names(method_class(config))}
    tiny = {
        f"{place}.{field}": value
        for place, encoder in encoders.items()
        for field, value in TINY_ENCODERS[kind_of(encoder)].items()
    }
    return list((TINY | tiny | EXTRA.get(name, {}) | more).items())


def read(text, changes, teacher):
    """Returns a shipped config, with a teacher if its method needs one."""
    config = load(str(ROOT / "configs" / text), changes)
    if "teacher" in config.method:
        config.method.teacher = str(teacher)
    return config


class Program:
    """The step of a run as the trainer compiles it, on some devices, once for all tests of a config."""

    def __init__(self, run, devices):
        self.trainer = Trainer(run, parallel.make_mesh(jax.devices()[:devices]))
        self.batch = next(self.trainer.batches(0))
        self.compiled = self.lower().compile()  # raises if the tree, shapes or dtypes of a state change

    def lower(self):
        """Returns the step before it is compiled: the same program whichever processes have the devices."""
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), self.batch)
        with pytest.MonkeyPatch.context() as patch:
            for name in ("process_count", "process_index", "local_devices", "local_device_count"):
                patch.setattr(jax, name, None)
            return self.trainer.programs[0].lower(self.trainer.abstract, shapes, None, self.trainer.key)

    def __call__(self, state):
        """Takes a step on the first batch, from a copy of the state, since a step donates its argument."""
        state = jax.device_put(jax.device_get(state), self.trainer.shardings)
        return self.compiled(state, self.batch, None, self.trainer.key)


@pytest.fixture(scope="module", params=CONFIGS)
def run(request, teacher):
    changes = overrides(request.param, **BARE, **{"data.device_bytes": "0", "data.images_per_class": ""})
    return build(read(f"{request.param}.py", changes, teacher))


@pytest.fixture(scope="module")
def step(run):
    return Program(run, devices=1)


@pytest.fixture(scope="module")
def state(step) -> TrainState:
    return step.trainer.init()


def test_every_method_has_a_config():
    named = {load(str(ROOT / "configs" / f"{name}.py")).method.name for name in CONFIGS}
    assert named == set(METHODS)


def test_steps_are_finite_and_move_every_parameter(run, step, state):
    train = state
    for _ in range(3):
        train, metrics = step(train)
        chex.assert_tree_all_finite((train, metrics))
    chex.assert_trees_all_equal_shapes_and_dtypes(train, state)
    assert int(train.step) == 3
    moved = jax.tree.map(lambda old, new: bool(np.any(np.asarray(old) != np.asarray(new))), state.params, train.params)
    still = {path for path, leaf in flat(moved).items() if not leaf}
    assert still == STILL.get(run.config.method.name, set())


def test_one_device_and_eight_agree(run, step, state):
    eight = Program(run, devices=8)
    alone, metrics = step(state)
    together, metrics_together = eight(state)
    chex.assert_trees_all_close(metrics, jax.device_get(metrics_together), rtol=5e-4, atol=1e-5)
    # The moments hold every gradient. Adam divides by a gradient's size: rounding can become a whole step of its rate,
    # by which a target follows.
    both = [alone, jax.device_get(together)]
    target = {"target": None} if "target" in alone.state._fields else {}
    kept = [(train.state._replace(**target), train.opt_state) for train in both]
    chex.assert_trees_all_close(*kept, rtol=1e-3, atol=1e-4)
    rate = 2 * float(metrics["learning_rate"]) if run.config.optimizer.name == "adamw" else 1e-4
    moved = [(train.params, getattr(train.state, "target", None)) for train in both]
    chex.assert_trees_all_close(*moved, rtol=1e-3, atol=rate)


def test_loss_falls_on_a_fixed_batch(run, step, state):
    if run.config.method.name in RESTARTED:
        pytest.skip("its loss starts anew")
    losses, train = [], state
    for _ in range(25):
        train, metrics = step(train)
        losses.append(float(metrics["loss"]))
    filled = losses[2:]  # a queue starts with random keys, which are easy to distinguish, a memory is empty at first
    assert np.mean(filled[-3:]) < np.mean(filled[:3]) - 0.01


def test_a_restored_state_takes_the_same_step(step, state, tmp_path):
    train, _ = step(state)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, train)
        _, restored = checkpoints.restore(step.trainer.abstract)
    after, metrics = step(train)
    chex.assert_trees_all_equal((after, metrics), step(restored))
    if "assignment" in train.state._fields:  # methods that cluster do so in the step after the restore
        assert np.all(np.asarray(train.state.assignment) == -1) and np.any(np.asarray(after.state.assignment) >= 0)


def test_what_the_loss_calls_features_has_the_shape_of_features(run, state):
    def loss(params, batch):
        return run.method.loss(params, state.state, batch, jax.random.key(0), state.step)

    result = jax.eval_shape(loss, state.params, run.example_batch)
    images = jax.ShapeDtypeStruct((BATCH, *[run.config.data.size] * 2, 3), np.float32)
    features = jax.eval_shape(run.method.features, state.params, state.state, images)
    assert features.shape == (BATCH, state.probe.mean.shape[0])
    some = len(result.features)  # all images, or every k-th
    assert BATCH % some == 0 and result.features.shape == (some, *features.shape[1:])
    embeddings = jax.eval_shape(run.method.embeddings, state.params, state.state, images)
    assert embeddings.shape[0] == BATCH


def test_features_and_embeddings_depend_on_their_own_image_alone(run, state):
    size = run.config.data.size
    images = np.random.default_rng(0).normal(size=(BATCH, size, size, 3)).astype(np.float32)
    other = np.concatenate([images[:1], np.zeros_like(images[1:])])

    @jax.jit
    def both(images):
        method = run.method
        return [part(state.params, state.state, images) for part in (method.features, method.embeddings)]

    for together, mixed in zip(both(images), both(other), strict=True):
        np.testing.assert_allclose(together[0], mixed[0], rtol=1e-5, atol=1e-6)
        assert not np.allclose(together[1], mixed[1])


def flat(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def test_hyper_parameters_are_printed_with_the_method(run):
    text = repr(run.method)
    assert all(field.name in text for field in dataclasses.fields(run.method))


@pytest.mark.parametrize(("name", "preset"), [pair for pair in PRESETS if pair[1]])
def test_published_presets_trace(name, preset, teacher):
    """The widths of the paper are built, initialised and traced for one step, without computing anything.

    ResNets have one block per stage and transformers two: more of the same kind only take longer. Where the optimiser
    has rules for each block, all are there.
    """
    config = read(f"{name}.py:{preset}", (), teacher)
    for network in network_names(method_class(config)):
        if "block" not in str(config.optimizer.rules):
            config[network].encoder.update(SHALLOW[kind_of(config[network].encoder.name)])
    if "text" in config and config.text.depth:
        config.text.depth = 2
    sets = {"cifar10": (50_000, 10), "imagenet2012": (1_281_167, 1000), "fashion_mnist": (10_000, 10)}
    sets |= {"coco": (118_287, 0), "yfcc15m": (14_800_000, 0)}
    size, classes = sets[re.split("[:/]", config.data.source)[-1]]
    assert_traces(build(config, source=Counted(size, classes, config), test=Counted(100, classes, config)))


@pytest.mark.parametrize("name", CONFIGS)
def test_small_views_of_its_own_recipe_reach_the_loss(name, teacher):
    """Two large views and four small ones, of its first view: any config that compares crops takes them."""
    small = {"data.size": "32", "augment.small_views": "4", "augment.small_size": "16", "network.passes": "resolution"}
    changes = overrides(name, **small, **BARE)
    if name in NO_SMALL_VIEWS:
        with pytest.raises(UserError, match=NO_SMALL_VIEWS[name]):
            build(read(f"{name}.py", changes, teacher))
        return
    run = build(read(f"{name}.py", changes, teacher))
    views = run.example_batch["views"]
    assert [(role, array.shape[1], array.shape[2]) for role, array in zip(views.roles, views, strict=True)] == [
        ("large", views.large.total, 32),
        ("small", 4, 16),
    ]

    def loss(small, key, batch):
        batch = batch | {"views": Views([*batch["views"].large, *small], batch["views"].roles)}
        params, state = run.method.init(key, batch)
        return run.method.loss(params, state, batch, key, jnp.int32(0)).loss

    jaxpr = jax.make_jaxpr(loss)(views.small, jax.eval_shape(jax.random.key, 0), run.example_batch)
    reached = set(jaxpr.jaxpr.invars[:1])
    for equation in jaxpr.eqns:  # in the order of computation, each taken to depend on all of its inputs
        if any(isinstance(x, jax.extend.core.Var) and x in reached for x in equation.invars):
            reached |= set(equation.outvars)
    assert jaxpr.jaxpr.outvars[0] in reached


def test_the_cifar10_table_has_a_row_for_each_config_that_needs_no_captions():
    methods = {name: method_class(load(str(ROOT / "configs" / f"{name}.py"))) for name in CONFIGS}
    assert set(cifar10.OWN) == {name for name, method in methods.items() if not method.needs_text}


@pytest.mark.parametrize("name", cifar10.OWN)
def test_rows_of_the_cifar10_table_trace(name, teacher):
    """A row runs for a quarter of an hour and the table for hours, so all settings must be valid beforehand."""
    flags = argparse.Namespace(data="DIR", out=pathlib.Path("runs"), seed=0, preset=None)
    changes = cifar10.changes(name, flags)
    assert changes["data.source"] == ("folder:runs/salient" if name == "cast" else "folder:DIR")
    assert changes.get("method.teacher", "runs/simclr") == "runs/simclr"
    config = read(f"{name}.py", changes.items(), teacher)
    assert_traces(build(config, source=Counted(50_000, 10, config), test=Counted(10_000, 10, config)))


def assert_traces(run):
    """The first state and one step of a run trace at its own sizes, and the step keeps the state's shapes.

    But for the gradient, which has the shapes of the parameters and takes as long to trace as the rest.
    """
    key = jax.random.key(0)
    shapes = jax.eval_shape(lambda *made: untrained(run, *made, key), *run.shapes)

    def one(train, batch):
        return train_step(run.method, run.optimizer, train, batch, key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "value_and_grad", lambda function, **_: lambda x: (function(x), x))
        after, metrics = jax.eval_shape(one, shapes, run.example_batch)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, shapes)
    assert metrics["loss"].shape == ()


class Counted:
    """A source of `size` images that are never read."""

    name = "counted"

    def __init__(self, size, classes, config=None):
        self.size, self.classes = size, tuple(map(str, range(classes)))
        self.labels = np.arange(size) % max(classes, 1)
        masks = ["mask"] if config and config.data.masks else []
        captioned = config and method_class(config).needs_text
        self.fields = data.image_fields(masks, data.Text(5, config.data.context) if captioned else None)

    def __len__(self):
        return self.size
