"""Features of a sample: which, in which order, on however many devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_methods import ROOT, overrides

from ssl_jax import data, parallel
from ssl_jax.build import build
from ssl_jax.config import load
from ssl_jax.errors import UserError
from ssl_jax.evaluate import features
from ssl_jax.evaluate.features import Sample, encoder, extract, layers, pixels
from ssl_jax.evaluate.online import Evaluator, Extracted
from ssl_jax.evaluate.protocols import PROTOCOLS
from ssl_jax.trainer import Trainer

DEVICES = (1, 8)


@functools.cache
def run(name="byol", *changes):
    return build(load(str(ROOT / "configs" / f"{name}.py"), [*overrides(name), *changes]), devices=1)


def mesh_of(devices):
    return parallel.make_mesh(jax.devices()[:devices])


@functools.cache
def trained(devices):
    """A first state and the evaluator of its run."""
    trainer = Trainer(run(), mesh_of(devices))
    return trainer.init(), Evaluator(run(), trainer.mesh)


def draw(encode, state, sample):
    return jax.tree.map(np.asarray, extract(encode, state, sample))


@pytest.mark.parametrize("budget", [0, 2**30])
@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("limit", [1, 37, 64])
def test_a_sample_comes_in_its_order_with_padding_at_the_end(devices, limit, budget):
    mesh, of = mesh_of(devices), run("byol", ("data.host_bytes", str(budget)), ("batch_size", "12"))
    sample = Sample(of, mesh, of.source, limit)
    assert (sample.cache is None) == (budget == 0)

    @functools.partial(jax.jit, out_shardings=parallel.batch_sharding(mesh))
    def mean(state, batch):
        return {"mean": jnp.mean(batch["image"].astype(jnp.float32), (1, 2, 3))[:, None]}

    found = extract(mean, None, sample)["mean"]
    assert found.x.sharding.is_equivalent_to(parallel.batch_sharding(mesh), 2)
    whole = data.read(sample.images, np.arange(limit, dtype=np.int32), of.canvas)
    np.testing.assert_allclose(found.x[:limit, 0], whole["image"].mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(found.label[:limit], whole["label"])
    np.testing.assert_array_equal(found.position[:limit], np.arange(limit))
    assert (found.position[limit:] == -1).all() and (found.label[limit:] == -1).all()


def test_one_device_and_eight_extract_the_same():
    ours, expected = (extract(*shown(devices)) for devices in reversed(DEVICES))
    assert ours.keys() == expected.keys() == {"backbone", "projection"}
    for name in ours:
        np.testing.assert_array_equal(ours[name].position, expected[name].position)
        np.testing.assert_array_equal(ours[name].label, expected[name].label)
        np.testing.assert_allclose(ours[name].x, expected[name].x, rtol=1e-4, atol=1e-5)


def shown(devices):
    state, evaluator = trained(devices)
    return evaluator.encode, state, evaluator.bank


def test_the_names_are_those_of_the_methods_functions():
    state, evaluator = trained(1)
    found = extract(evaluator.encode, state, evaluator.bank)
    batch = data.read(evaluator.bank.images, np.arange(8, dtype=np.int32), run().canvas)
    images = features.augment.center(run().recipe, jax.device_put(batch), run().config.data.size)
    for name, function in (("backbone", run().method.features), ("projection", run().method.embeddings)):
        expected = function(state.params, state.state, images)
        np.testing.assert_allclose(found[name].x[:8], expected, rtol=1e-4, atol=1e-5)


def test_the_encoder_runs_once_for_all_features():
    state, _ = trained(1)
    size = run().config.data.size
    batch = {
        "image": jnp.zeros((8, size, size, 3), jnp.uint8),
        "box": jnp.tile(jnp.array([[0, 0, size, size]]), (8, 1)),
    }

    def flops(names):
        encode = encoder(run(), mesh_of(1), names)
        return encode.lower(state, batch).compile().cost_analysis()["flops"]

    backbone, projection = flops({"backbone": 0}), flops({"projection": 2})
    assert flops({"backbone": 0, "projection": 2}) < 1.1 * max(backbone, projection)


def test_features_are_those_of_the_config_else_of_the_method():
    both = {"backbone": 0, "projection": 2}
    method = run().method
    assert layers(method) == ("backbone", both)
    assert layers(method, "projection") == ("projection", both)
    assert layers(method, "hidden:1") == ("hidden:1", both | {"hidden:1": 1})
    chosen, known = layers(run("instdisc").method)
    assert chosen == "projection" and known["backbone"] == 0


def test_without_a_projector_there_is_one_representation():
    bare = run().method.network.clone(projector=None, predictor=None)
    method = dataclasses.replace(run().method, network=bare)
    for feature in (None, "backbone", "projection"):
        assert layers(method, feature) == ("backbone", {"backbone": 0})


@pytest.mark.parametrize("feature", ["hidden:0", "hidden:2", "hidden:9", "hidden", "hidden:x", "prediction"])
def test_features_that_are_not_there_are_refused(feature):
    with pytest.raises(
        UserError, match=rf"evaluate\.feature is '{feature}'.*set it to backbone, projection or hidden:K"
    ):
        layers(run().method, feature)


@pytest.mark.parametrize("devices", DEVICES)
def test_what_training_measures_stays_in_its_range(devices):
    state, evaluator = trained(devices)
    pairs = evaluator.extract(state)
    for name, value in evaluator.measure(pairs, state.probe).items():
        assert type(value) is float
        assert (1 if name == "rank" else 0) <= value <= 100


@pytest.mark.parametrize("name", ["knn", "linear", "logreg"])
def test_protocols_that_classify_get_all_of_what_is_easy_and_see_no_padding(name):
    mesh = mesh_of(8)
    of = features.Features(
        np.pad(np.eye(4, dtype=np.float32)[np.arange(60) % 4], ((0, 4), (0, 0)), constant_values=1),
        np.pad(np.arange(60, dtype=np.int32) % 4, (0, 4), constant_values=-1),
        np.pad(np.arange(60, dtype=np.int32), (0, 4), constant_values=-1),
    )
    of = jax.device_put(of, parallel.batch_sharding(mesh))
    subject = Extracted((of, of), tuple("abcd"), mesh)
    assert PROTOCOLS[name]()(subject).numbers["top1"] == 100.0


def test_training_measures_the_chosen_features_and_the_others_beside():
    state, evaluator = trained(8)
    pairs = evaluator.extract(state)
    default = evaluator.measure(pairs, state.probe)
    assert default.keys() == {"rank", "knn_top1", "projection_knn_top1", "probe_top1"}
    other = Evaluator(run(), evaluator.mesh)
    other.chosen = "projection"
    swapped = other.measure(pairs, state.probe)
    assert swapped.keys() == {"rank", "knn_top1", "backbone_knn_top1", "probe_top1"}
    assert swapped["knn_top1"] == default["projection_knn_top1"]
    assert swapped["backbone_knn_top1"] == default["knn_top1"]
    assert (swapped["rank"], swapped["probe_top1"]) == (default["rank"], default["probe_top1"])


def test_pixels_are_those_of_small_centre_crops():
    mesh = mesh_of(8)
    sample = Sample(run(), mesh, run().source, 16)
    assert draw(pixels(run(), mesh, 8), None, sample)["pixels"].x.shape[1] == 8 * 8 * 3
