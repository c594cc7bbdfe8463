"""Configs: overrides from the command line, and which run a workdir belongs to."""

import json
import re

import pytest
from test_methods import CONFIGS, PRESETS, ROOT, Counted

from ssl_jax import augment, networks, optimizer, schema
from ssl_jax.build import build
from ssl_jax.config import flatten, load
from ssl_jax.errors import UserError
from ssl_jax.fields import fields
from ssl_jax.methods import METHODS
from ssl_jax.workdir import FIXED, FREE, claim


def read(name="byol", preset="", **changes):
    return load(
        str(ROOT / "configs" / f"{name}.py:{preset}"), [(key.replace("__", "."), changes[key]) for key in changes]
    )


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("batch_size", "64", 64),
        ("seed", "-1", -1),
        ("epochs", "1", 1.0),
        ("optimizer.learning_rate", "3e-4", 3e-4),
        ("log.wandb", "TRUE", True),
        ("log.wandb", "false", False),
        ("augment.crop", "(0.3,1)", (0.3, 1)),
        ("augment.crop", "[0.3, 1.0]", (0.3, 1.0)),
        ("augment.crop", "none", None),
        ("augment.blur", "1", 1.0),
        ("steps", "7", 7),
        ("steps", "None", None),
        ("optimizer.momentum", "1", 1.0),
        ("data.canvas", "40", 40),
        ("data.source", "tfds:a=b:c/d", "tfds:a=b:c/d"),
        ("optimizer.warmup", "10 epochs", "10 epochs"),
        ("optimizer.warmup", "40", "40"),
        ("checkpoint.every", "313 steps", "313 steps"),
        ("method.decay.start", "0.9", 0.9),
        ("network.encoder.stem", "7x7", "7x7"),
    ],
)
def test_values_are_read_by_the_type_they_have(key, text, value):
    config = load(str(ROOT / "configs" / "byol.py"), [(key, text)])
    read = flatten(config)[key]
    assert read == value
    assert type(read) is type(value)
    rest = {
        name
        for name, other in flatten(load(str(ROOT / "configs" / "byol.py"))).items()
        if other != flatten(config)[name]
    }
    assert rest <= {key}


def test_none_is_a_word_where_a_word_is_due():
    """The optimiser's scaling and the norms of a network are called none; a text is never unset by it."""
    assert read("moco_v2", "cifar10", optimizer__scaling="none").optimizer.scaling == "none"
    assert read("moco_v2", network__projector__norm="none").network.projector.norm == "none"


def test_the_last_of_two_values_wins():
    file = str(ROOT / "configs" / "byol.py")
    assert load(file, [("steps", "5"), ("steps", "none"), ("seed", "1"), ("seed", "2")]).steps is None
    assert load(file, [("seed", "1"), ("seed", "2")]).seed == 2


def test_a_schedule_is_changed_by_its_parts():
    run = build(read(method__decay__start="0.9", steps="10"))
    assert float(run.method.decay(0)) == pytest.approx(0.9)
    assert float(run.method.decay(10)) == pytest.approx(1.0)


def test_an_encoder_is_changed_by_its_name():
    run = build(read("byol", "imagenet", network__encoder__name="vit_tiny"), source=Counted(5000, 10))
    assert isinstance(run.method.network.encoder, networks.ViT)
    run = build(read(network__encoder__name="resnet18"))
    assert run.method.network.encoder.layers == (2, 2, 2, 2)


def test_a_field_that_is_made_from_the_group_of_its_name():
    assert "decoder" not in read("byol")
    run = build(read("mae", decoder__dim="48", decoder__heads="2", network__dtype="bfloat16"))
    assert (run.method.decoder.dim, run.method.decoder.depth, run.method.decoder.dtype) == (48, 2, "bfloat16")
    assert set(run.shapes[0]) == {"network", "decoder"}
    with pytest.raises(UserError, match=r"did you mean 'decoder\.heads'"):
        read("mae", decoder__haeds="2")
    with pytest.raises(UserError, match=r"decoder\.heads is 0; set it to more than 0"):
        build(read("mae", decoder__heads="0"))


def test_views_are_in_the_type_that_the_network_computes_in():
    for dtype in ("float32", "bfloat16"):
        run = build(read("simclr", network__dtype=dtype, augment__small_views="2", augment__small_size="16"))
        assert [array.dtype for array in run.example_batch["views"]] == [dtype, dtype]


def test_a_claim_that_was_cut_short_leaves_a_workdir_free(tmp_path):
    (tmp_path / "config.part.json").write_text("{")
    claim(tmp_path, read())
    assert (tmp_path / "config.json").exists()


def test_flatten():
    assert flatten({"a": 1, "b": {"c": (2, {"d": 3}), "e": {"f": None}}}) == {
        "a": 1,
        "b.c": (2, {"d": 3}),
        "b.e.f": None,
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_the_table_of_a_config_lists_its_presets(name):
    table = (ROOT / "configs" / f"{name}.py").read_text().split('"""')[1]
    listed = re.findall(r"^:(\w+)", table, re.MULTILINE)
    assert listed == [preset for other, preset in PRESETS if other == name and preset]


TEXTS = {bool: ("true", True), int: ("3", 3), float: ("0.5", 0.5), str: ("/x", "/x"), tuple: ("(1,2)", (1, 2))}
CLASSES = [
    *((cls, "network.encoder") for cls in (networks.ResNet, networks.ViT)),
    *((cls, f"network.{head}") for cls in (networks.MLP, networks.Prototypes) for head in networks.HEAD_NAMES),
    (optimizer.Settings, "optimizer"),
    (schema.Evaluate, "evaluate"),
]
SETTABLE = [*((fields(cls), group) for cls, group in CLASSES), (augment.settings(), "augment")]


@pytest.mark.parametrize(
    ("known", "group"), [*((fields(cls), group) for cls, group in CLASSES), (augment.settings(), "augment")]
)
def test_every_field_can_be_set(known, group):
    settable = [name for name in known if name not in ("parent", "name", "dtype")]
    assert settable
    for name in settable:
        text, value = TEXTS[known[name].kind]
        assert flatten(read(**{f"{group}.{name}": text}))[f"{group}.{name}"] == value


def test_every_field_of_an_operation_is_a_key_of_its_own():
    known = [name for cls in (augment.Crop, *augment.OPERATIONS.values()) for name in fields(cls)]
    assert len(augment.settings()) == len(known) + 2 + 7  # flip and order; those of a whole recipe


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_every_hyper_parameter_can_be_set(name, preset):
    config = read(name, preset)
    known = schema.hyper_parameters(METHODS[config.method.name])
    assert set(known) == set(config.method) - {"name"}
    for field, described in known.items():
        if f"method.{field}" in schema.groups(config):
            continue  # a schedule, which is set by its parts
        text, value = TEXTS[described.kind]
        assert read(name, preset, **{f"method.{field}": text}).method[field] == value


def test_what_is_unset_has_its_default():
    assert build(read("simclr", method__temperature="")).method.temperature == METHODS["simclr"].temperature
    assert build(read("simclr", network__encoder__width="")).method.network.encoder.width == 1.0


def test_a_head_is_as_wide_as_what_the_encoder_chosen_last_gives():
    run = build(read("simclr_v2", network__encoder__name="resnet50", network__encoder__width="1"))
    params, _ = run.shapes
    assert params["network"]["projector"]["linear1"]["kernel"].shape == (2048, 2048)
    assert params["network"]["projector"]["linear3"]["kernel"].shape == (2048, 128)


def test_a_projection_may_be_as_wide_as_the_features():
    run = build(read("simsiam", network__projector__output="", network__projector__hidden=""))
    params, _ = run.shapes
    assert params["network"]["projector"]["linear2"]["kernel"].shape == (128, 128)
    assert params["network"]["predictor"]["linear2"]["kernel"].shape == (128, 128)


def test_a_further_preset_shares_what_its_set_s_shares():
    base, further = read("swav", "imagenet"), read("swav", "imagenet_bs256")
    assert (further.data, further.evaluate) == (base.data, base.evaluate)
    assert (base.batch_size, further.batch_size) == (4096, 256)


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_a_workdir_is_claimed_again_by_the_same_config(name, preset, tmp_path):
    claim(tmp_path, read(name, preset))
    written = (tmp_path / "config.json").read_bytes()
    claim(tmp_path, read(name, preset))
    assert (tmp_path / "config.json").read_bytes() == written
    with pytest.raises(UserError, match=r"seed \(0 there, 1 now\)"):
        claim(tmp_path, read(name, preset, seed="1"))


def test_no_two_configs_share_a_workdir(tmp_path):
    claim(tmp_path, read("swav"))
    for name, preset in [("byol", ""), ("swav", "cifar10")]:
        with pytest.raises(UserError, match="holds another run"):
            claim(tmp_path, read(name, preset))


def test_a_changed_rule_of_the_optimizer_makes_another_run(tmp_path):
    claim(tmp_path, read("swav"))
    rules = '(("predictor", {"freeze": "2 epochs"}),)'
    with pytest.raises(UserError, match=r"optimizer\.rules"):
        claim(tmp_path, read("swav", optimizer__rules=rules))


def older(tmp_path, config, group, name, value=None):
    """Makes a workdir whose config.json lacks a key, or has another value for it."""
    claim(tmp_path, config)
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored[group][name]
    if value is not None:
        stored[group][name] = value
    (tmp_path / "config.json").write_text(json.dumps(stored))


@pytest.mark.parametrize(
    ("group", "name"),
    [("data", "canvas"), ("data", "masks"), ("optimizer", "nesterov"), ("augment", "space"), ("method", "temperature")],
)
def test_a_key_that_is_newer_than_a_run_has_its_default_there(tmp_path, group, name):
    config = read("simclr", "imagenet", data__canvas="", seed="3")
    older(tmp_path, config, group, name)
    claim(tmp_path, config)
    assert name in json.loads((tmp_path / "config.json").read_text())[group]


def test_a_default_that_a_run_wrote_down_is_the_same_run(tmp_path):
    config = read("simclr", "imagenet")
    older(tmp_path, config, "method", "temperature", 0.1)
    claim(tmp_path, config)


@pytest.mark.parametrize(
    ("key", "value"), [("method.temperature", "0.2"), ("data.masks", "true"), ("optimizer.nesterov", "true")]
)
def test_a_key_that_is_newer_than_a_run_and_set_makes_another_run(tmp_path, key, value):
    older(tmp_path, read("simclr", "imagenet"), *key.split("."))
    with pytest.raises(UserError, match=re.escape(key)):
        claim(tmp_path, read("simclr", "imagenet", **{key: value}))


def test_what_evaluates_logs_and_keeps_may_change_but_not_what_shapes_the_state(tmp_path):
    claim(tmp_path, read())
    claim(
        tmp_path, read(evaluate__neighbours="5", evaluate__feature="projection", log__every="3", checkpoint__keep="1")
    )
    with pytest.raises(UserError, match=r"evaluate\.labels \('auto' there, 'ignored' now\)"):
        claim(tmp_path, read(evaluate__labels="ignored"))


@pytest.mark.parametrize("name", FREE + FIXED)
def test_what_is_free_exists(name):
    assert any(key.startswith(name) for key in flatten(read()))


def test_a_file_of_one_s_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("x = 1\n")
    with pytest.raises(UserError, match=r"mine\.py defines no get_config\(preset\)"):
        load(str(file))
    file.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(preset): return ConfigDict({'method': {'name': preset or 'byol'}})\n"
    )
    assert load(f"{file}:swav").method.name == "swav"


@pytest.mark.parametrize("key", ["data.source", "evaluate.source"])
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("folder:a/", "folder:{here}/a"),
        ("folder:../b", "folder:{above}/b"),
        ("folder:/a//b/", "folder:/a/b"),
        ("folder:/", "folder:/"),
        ("folder:~/a", "folder:{home}/a"),
        ("pairs:a.csv", "pairs:{here}/a.csv"),
        ("tfds:cifar10", "tfds:cifar10"),
    ],
)
def test_a_source_means_the_same_images_in_any_working_directory(key, given, kept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    config = load("byol", [(key, given)])
    assert flatten(config)[key] == kept.format(here=tmp_path, above=tmp_path.parent, home="/home/me")


@pytest.mark.parametrize(("name", "key"), [("byol", "init.from"), ("crd", "method.teacher")])
def test_a_path_means_the_same_in_any_working_directory(name, key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load(name, [(key, "runs/a")])
    assert flatten(config)[key] == f"{tmp_path}/runs/a"
    assert flatten(load(name, [(key, "gs://a/b")]))[key] == "gs://a/b"
    claim(tmp_path / "run", config)
    stored = tmp_path / "run" / "config.json"
    stored.write_text(stored.read_text().replace(f'"{tmp_path}/runs/a"', '"runs/a"'))  # as older versions kept it
    assert '"runs/a"' in stored.read_text()
    claim(tmp_path / "run", config)
