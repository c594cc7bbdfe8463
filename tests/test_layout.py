"""The layout of a training state: bytes per device, the same results on any mesh, checkpoints from one to another."""

import importlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_methods import BARE, ROOT, overrides

from ssl_jax import checkpoint, parallel
from ssl_jax.build import build
from ssl_jax.config import load
from ssl_jax.errors import UserError
from ssl_jax.trainer import Trainer

MIB = 2**20


def array(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


PARAMS = {
    "encoder": {"linear1": {"kernel": array(1024, 4096), "bias": array(4096)}},  # 16 MiB and 16 KiB
    "predictor": {"kernel": array(256, 65536)},  # 64 MiB
}
STATE = {
    "params": {"network": PARAMS},
    "opt_state": {"mu": {"network": PARAMS}},
    "state": {"target": PARAMS, "bank": array(2**16, 128), "queue": array(4, 2**14, 128)},  # 32 MiB each
}
RULES = (parallel.rows("state/bank"), parallel.rows("state/queue", axis=1))


def bytes_per_device(state, shardings):
    shares = jax.tree.map(lambda x, s: np.prod(s.shard_shape(x.shape)) * x.dtype.itemsize, state, shardings)
    return sum(jax.tree.leaves(shares))


@pytest.mark.parametrize("sizes", [(1, 8, 1, 1), (1, 4, 2, 1), (1, 2, 4, 1), (1, 1, 8, 1), (1, 2, 2, 2), (2, 2, 2, 1)])
def test_each_device_holds_its_share_of_what_is_large(sizes):
    dcn, data, fsdp, model = sizes
    mesh = parallel.make_mesh(sizes=parallel.MeshSizes(*sizes))
    shardings = parallel.layout(mesh, STATE, RULES)
    copies = 3 * (16 * MIB / fsdp + 64 * MIB / (fsdp * model) + 16 * 2**10)
    assert bytes_per_device(STATE, shardings) == copies + 64 * MIB / (dcn * data * fsdp)
    assert shardings["state"]["target"] == shardings["opt_state"]["mu"]["network"] == shardings["params"]["network"]


def test_what_does_not_divide_stays_whole():
    mesh = parallel.make_mesh(sizes=parallel.MeshSizes(fsdp=8))
    state = {"encoder": {"kernel": array(1023, 4099)}, "state": {"bank": array(2**16 + 1, 127)}}
    for sharding in jax.tree.leaves(parallel.layout(mesh, state, [parallel.rows("state/bank")])):
        assert sharding.is_fully_replicated


def test_a_rule_that_matches_nothing_is_an_error():
    with pytest.raises(UserError, match=r"layout rule '\^state/banq.*matches no parameter"):
        parallel.layout(parallel.make_mesh(), STATE, [parallel.rows("state/banq")])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mesh.fsdp": "3"}, r"mesh with mesh\.fsdp=3 does not fit 8 devices; set sizes whose product is 8"),
        ({"mesh.data": "4"}, r"mesh with mesh\.data=4 does not fit 8 devices"),
        ({"mesh.model": "0"}, r"mesh\.model is 0; set it to more than 0"),
        ({"mesh.model": "2", "batch_size": "6"}, "6 images cannot be split over 4 devices"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        build(load(str(ROOT / "configs" / "simclr.py"), list(changes.items())))


@pytest.fixture
def any_size(monkeypatch):
    """Lays small arrays out like large ones."""
    module = importlib.import_module("ssl_jax.parallel.layout")  # of which the package holds the function
    monkeypatch.setattr(module, "DEFAULTS", tuple(rule._replace(least=256) for rule in module.DEFAULTS))


def make_run(name, **changes):
    shallow = {"network.encoder.layers": "(1,)", "data.device_bytes": "0", "steps": "7"}
    return build(load(str(ROOT / "configs" / f"{name}.py"), overrides(name, **BARE, **shallow, **changes)))


def make_trainer(run, devices, **sizes):
    return Trainer(run, parallel.make_mesh(jax.devices()[:devices], parallel.MeshSizes(**sizes)))


def check_same(state, other):
    for part in ("params", "state", "opt_state"):
        ours, theirs = jax.device_get((getattr(state, part), getattr(other, part)))
        chex.assert_trees_all_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_run_goes_from_mesh_to_mesh_as_if_on_one(any_size, tmp_path):
    """A step on each, from the checkpoint of the one before; one epoch has more steps."""
    run = make_run("moco_v2")  # it has a queue, and a target that follows its parameters
    meshes = [(8, {"fsdp": 2}), (4, {"fsdp": 4}), (2, {"fsdp": 2}), (1, {}), (8, {"fsdp": 4}), (8, {"fsdp": 8})]
    whole = make_trainer(run, 8)
    state, expected = whole.init(), []
    for step, batch in zip(range(len(meshes)), whole.batches(0), strict=False):
        state, metrics = whole.step(state, batch, step)
        expected.append(float(metrics["loss"]))
    everything = bytes_per_device(whole.abstract, whole.shardings)

    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        for step, (devices, sizes) in enumerate(meshes):
            trainer = make_trainer(run, devices, **sizes)
            before = checkpoints.restore(trainer.abstract)[1] if step else trainer.init()
            after, metrics = trainer.step(before, next(trainer.batches(step)), step)
            np.testing.assert_allclose(metrics["loss"], expected[step], rtol=1e-5)
            held = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(after.params))
            assert held == bytes_per_device(after.params, trainer.shardings.params)
            assert held < everything or devices == 1
            checkpoints.save(step + 1, after)
        check_same(state, after)


def test_two_slices_with_split_heads_train_as_one(any_size):
    """Heads lie over `model` and the rest over `fsdp` in each of two slices."""
    run = make_run("swav", **{"network.predictor.prototypes": "32"})
    whole, sliced = make_trainer(run, 8), make_trainer(run, 8, dcn=2, fsdp=2, model=2)
    states, losses = [], []
    for trainer in (whole, sliced):
        state = trainer.init()
        for step, batch in zip(range(2), trainer.batches(0), strict=False):
            state, metrics = trainer.step(state, batch, step)
        states.append(state)
        losses.append(float(metrics["loss"]))
    np.testing.assert_allclose(*losses, rtol=1e-5)
    check_same(*states)
    kernel = sliced.abstract.params["network"]["predictor"]["kernel"]
    assert kernel.sharding.shard_shape(kernel.shape) == (kernel.shape[0] // 2, kernel.shape[1] // 2)
