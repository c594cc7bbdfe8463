"""Weights of another run to start from: what is taken, what is left, and what is refused before any work."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from test_methods import ROOT, overrides
from test_train import arguments

from ssl_jax import main, schema
from ssl_jax.build import build
from ssl_jax.config import load
from ssl_jax.errors import UserError
from ssl_jax.method import Variables
from ssl_jax.methods import METHODS
from ssl_jax.networks.positions import resample
from ssl_jax.numeric import path_name
from ssl_jax.pretrained import start_from
from ssl_jax.trainer import TrainState
from ssl_jax.weights import ADVICE, fill

VIT = {
    "network.encoder.name": "vit_tiny",
    "network.encoder.layers": "",
    "network.encoder.width": "",
    "network.encoder.stem": "",
    "network.encoder.dim": "8",
    "network.encoder.heads": "2",
    "network.encoder.depth": "2",
    "network.encoder.patch": "4",
    "network.encoder.size": "16",
}


def tree(**shapes):
    """A network's variables, each filled with a number of its own; of `encoder_scale` also the statistics' mean."""
    arrays = {name: np.full(shape, number, np.float32) for number, (name, shape) in enumerate(shapes.items(), 1)}
    params: dict = {}
    for name, array in arrays.items():
        part, leaf = name.split("_")
        params.setdefault(part, {})[leaf] = array
    return Variables(params, {"encoder": {"mean": np.full(2, 9.0, np.float32)}})


OURS = tree(encoder_kernel=(3, 2), encoder_scale=(2,), projector_kernel=(2, 4), predictor_kernel=(4, 4))
THEIRS = jax.tree.map(
    lambda x: x + 100, tree(encoder_kernel=(3, 2), encoder_scale=(2,), projector_kernel=(2, 5), predictor_kernel=(4, 4))
)


def values(variables):
    """The one number in each array."""
    flat = jax.tree_util.tree_leaves_with_path(variables)
    return {path_name(path): float(np.mean(leaf)) for path, leaf in flat}


def test_by_default_the_encoder_is_taken_and_the_heads_are_left():
    filled, taken = fill(OURS, THEIRS, schema.TAKE)
    assert values(filled) == {
        "params/encoder/kernel": 101,
        "params/encoder/scale": 102,
        "params/projector/kernel": 3,
        "params/predictor/kernel": 4,
        "stats/encoder/mean": 109,
    }
    assert str(taken) == "takes 3 arrays of encoder; leaves as initialised predictor, projector"
    assert values(OURS)["params/encoder/kernel"] == 1


def test_rules_take_what_they_find_and_say_what_did_not_fit():
    filled, taken = fill(OURS, THEIRS, ("encoder/(kernel|mean)", "^pr"))
    assert [values(filled)[f"params/{name}"] for name in ("encoder/kernel", "encoder/scale")] == [101, 2]
    assert [values(filled)[f"params/{name}/kernel"] for name in ("projector", "predictor")] == [3, 104]
    assert str(taken) == (
        "takes 3 arrays of encoder, predictor; "
        "leaves as initialised encoder/scale, projector/kernel ([2, 5] there, [2, 4] here)"
    )


def test_what_the_source_lacks_is_left_and_said():
    lacking = Variables({"encoder": THEIRS.params["encoder"]}, THEIRS.stats)
    filled, taken = fill(OURS, lacking, ("encoder", "projector"))
    assert values(filled)["params/projector/kernel"] == 3
    assert "projector/kernel (not there)" in str(taken)


def test_shapes_are_enough_to_know_what_fits():
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), OURS)
    filled, taken = fill(shapes, THEIRS, schema.TAKE)
    assert taken == fill(OURS, THEIRS, schema.TAKE)[1]
    assert filled.params["projector"] == shapes.params["projector"]


def test_arrays_take_the_type_of_those_they_replace():
    half = jax.tree.map(lambda x: x.astype(np.float16), THEIRS)
    filled, _ = fill(OURS, half, schema.TAKE)
    assert {leaf.dtype for leaf in jax.tree.leaves(filled)} == {np.dtype(np.float32)}


@pytest.mark.parametrize(("cells", "channels"), [(16, 6), (4, 6), (9, 8)])
def test_positions_are_resampled_to_another_grid_but_not_to_other_channels(cells, channels):
    def network(table):
        return Variables({"encoder": {"positions": table, "kernel": np.ones((2, 2))}, "head": {"bias": table}}, {})

    ours = network(np.zeros((9, 6), np.float32))
    table = np.random.default_rng(0).normal(size=(cells, channels)).astype(np.float32)
    if channels != 6:
        with pytest.raises(UserError, match=r"encoder/positions does not \(\[9, 8\] there, \[9, 6\] here\)"):
            fill(ours, network(table), schema.TAKE)
        return
    filled, taken = fill(ours, network(table), ("encoder", "head"))
    np.testing.assert_array_equal(filled.params["encoder"]["positions"], resample(table, 3, 3))
    assert "resamples encoder/positions to the new grid" in str(taken)
    assert f"head/bias ([{cells}, 6] there, [9, 6] here)" in str(taken)  # only positions have a grid


def test_what_few_arrays_another_architecture_shares_is_no_start():
    other = Variables({"encoder": {"kernel": np.zeros((7, 2)), "scale": np.zeros(2)}}, {})
    with pytest.raises(UserError) as caught:
        fill(OURS, other, schema.TAKE)
    assert str(caught.value) == (
        "init.from is a network of another architecture: 1 of 3 arrays fit, encoder/kernel does not ([7, 2] there, "
        "[3, 2] here); set the network to that of init.from, or init.take to what is to be taken"
    )
    _, taken = fill(OURS, other, ("encoder/scale",))  # who asks for little gets little
    assert taken.taken == ["encoder/scale"]


def test_a_rule_that_matches_nothing_is_refused():
    with pytest.raises(UserError, match=r"init\.take 'encodr' matches nothing in the network; did you mean 'encoder'"):
        fill(OURS, THEIRS, ("encoder", "encodr"))


def run_of(name, **changes):
    """A tiny run, and a state of step 0 that is 1 everywhere."""
    options = main.parser().parse(arguments(name, "unused", **changes))
    run = build(load(options.config, options.overrides))
    params, state = jax.tree.map(lambda x: jnp.asarray(np.ones(x.shape, x.dtype)), run.shapes)
    return run, TrainState(jnp.int32(0), params, state, params, None)


def assert_equal(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("name", ["byol", "moco_v2"])
def test_a_target_starts_from_the_weights_too(name, teacher, tmp_path):
    theirs = toy.write_run(tmp_path / "source", load(str(ROOT / "configs" / f"{name}.py"), overrides(name)))
    run, before = run_of(name, init__from=tmp_path / "source")
    after, said = start_from(run, before)
    network = run.method.variables(after.params, after.state)
    assert_equal(network.params["encoder"], theirs.params["encoder"])
    assert_equal(network.stats["encoder"], theirs.stats["encoder"])
    assert all(np.all(leaf == 1) for leaf in jax.tree.leaves(network.params["projector"]))
    assert_equal(after.state.target, network)
    for ours, copied in zip(jax.tree.leaves(network), jax.tree.leaves(after.state.target), strict=True):
        assert ours.unsafe_buffer_pointer() != copied.unsafe_buffer_pointer()  # a step gives each away
    assert said.startswith(f"starts from {tmp_path / 'source'} at step 3: takes ")
    rest = {"stats": None, "target": None}
    assert_equal(after.state._replace(**rest), before.state._replace(**rest))
    assert_equal(after._replace(params=None, state=None), before._replace(params=None, state=None))


@pytest.mark.parametrize("name", sorted(name for name, cls in METHODS.items() if "target" in cls.State._fields))
def test_a_target_is_of_the_form_of_the_network(name):
    """So that the network's weights can be put in its place."""
    options = main.parser().parse(arguments({"moco": "moco_v2"}.get(name, name), "unused"))
    run = build(load(options.config, options.overrides))
    params, state = run.shapes
    assert state.target == run.method.variables(params, state)


def test_a_vit_starts_at_another_image_size_and_patch(tmp_path):
    theirs = toy.write_run(tmp_path / "source", load(str(ROOT / "configs" / "byol.py"), list(VIT.items())))
    encoder = theirs.params["encoder"]
    assert encoder["positions"].shape == (16, 8)
    changes = {key.replace(".", "__"): value for key, value in VIT.items()}
    changes |= {"init__from": tmp_path / "source", "data__size": 24, "network__encoder__size": 24}
    for patch in (4, 2):
        run, before = run_of("byol", **changes | {"network__encoder__patch": patch})
        after, said = start_from(run, before)
        for found in (after.params["network"]["encoder"], after.state.target.params["encoder"]):
            assert_equal(found["positions"], resample(encoder["positions"], 24 // patch, 24 // patch))
            assert_equal(found["block2"], encoder["block2"])
        assert "resamples encoder/positions to the new grid" in said
        assert ("encoder/patch/kernel ([48, 8] there, [12, 8] here)" in said) == (patch == 2)


@pytest.fixture
def refusal(tmp_path, monkeypatch):
    """Runs the command, which must refuse and leave no workdir; returns what it says."""
    monkeypatch.setattr("ssl_jax.train.train", lambda run, workdir, start: pytest.fail("it began to train"))

    def run(source, name="byol", **changes):
        workdir = tmp_path / "run"
        with pytest.raises(UserError) as caught:
            main.main(main.parser().parse(arguments(name, workdir, init__from=source, **changes)))
        assert not workdir.exists()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return run


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **{name.replace("__", "/"): array for name, array in arrays.items()})
    return buffer.getvalue()


def npy():
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    return buffer.getvalue()


FILES = {
    "empty": (b"", "cannot be read as .npz"),
    "text": (b"weights", "cannot be read as .npz"),
    "one array": (npy(), "cannot be read as .npz"),
    "cut short": (npz(params__encoder__kernel=np.ones(100))[:-40], "cannot be read as .npz"),
    "other names": (npz(kernel=np.ones(3), params=np.ones(2)), "holds no array named params/..."),
    "other arrays": (npz(params__encoder__kernel=np.ones(3)), "another architecture: 0 of 15 arrays fit, encoder/"),
}


@pytest.mark.parametrize(("content", "sentence"), FILES.values(), ids=FILES)
def test_files_that_hold_no_weights_are_explained(refusal, tmp_path, content, sentence):
    (tmp_path / "weights.npz").write_bytes(content)
    said = refusal(tmp_path / "weights.npz")
    assert sentence in said
    if "architecture" not in said:
        assert said.endswith(ADVICE)


def test_folders_that_hold_no_weights_are_explained(refusal, tmp_path, teacher):
    none = str(tmp_path / "none")
    assert refusal(none) == f"there is no run in {none!r}: its config.json cannot be read; {ADVICE}"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "there is no run in" in refusal(empty)
    (empty / "config.json").write_text("[]")
    assert "its config.json cannot be read" in refusal(empty)
    (empty / "config.json").write_text((teacher / "config.json").read_text())
    assert "has no whole checkpoint yet; train it first" in refusal(empty)
    (empty / "checkpoints" / "3").mkdir(parents=True)
    assert "has no whole checkpoint, only damaged or unfinished ones; train it first" in refusal(empty)


def test_other_networks_rules_and_methods_are_explained(refusal, teacher, tmp_path):
    vit = {key.replace(".", "__"): value for key, value in VIT.items()}
    assert "a network of another architecture: 0 of " in refusal(teacher, **vit)
    assert "a network of another architecture: " in refusal(
        teacher, network__encoder__name="resnet50", network__encoder__layers=""
    )
    assert "init.take 'encodr' matches nothing" in refusal(teacher, init__take="('encodr',)")
    assert "init.take is ('(',); set it to regular expressions, such as" in refusal(teacher, init__take="('(',)")
    assert "init.take is (1,); set it to regular expressions" in refusal(teacher, init__take="(1,)")
    assert "init.take is set and init.from is not; set init.from" in refusal("", init__take="('encoder',)")
    assert (
        "CMC trains a network for each group of channels, so its runs are neither teachers nor weights to start from"
        in refusal(teacher, name="cmc")
    )
    cmc = tmp_path / "cmc"
    toy.write_run(cmc, load(str(ROOT / "configs" / "cmc.py"), overrides("cmc")))
    assert (
        "CMC trains a network for each group of channels, so its runs are neither teachers nor weights to start from"
        in refusal(cmc)
    )


def test_a_file_of_weights_is_taken(tmp_path):
    run, before = run_of("simclr", init__from=tmp_path / "weights.npz")
    flat = jax.tree_util.tree_leaves_with_path(run.method.variables(before.params, before.state))
    arrays = {path_name(path): 2 * np.asarray(leaf) for path, leaf in flat}
    np.savez(tmp_path / "weights.npz", **arrays)
    after, said = start_from(run, before)
    network = run.method.variables(after.params, after.state)
    for path, leaf in jax.tree_util.tree_leaves_with_path(network):
        assert np.all(leaf == (2 if path[1].key == "encoder" else 1)), path
    assert said.startswith(f"starts from {tmp_path / 'weights.npz'}: takes ")
