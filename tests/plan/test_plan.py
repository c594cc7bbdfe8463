"""The planner's command: a table, JSON, a cache, a page, and one sentence for each mistake."""

import dataclasses
import importlib.util
import json
import pathlib
import re

import jax
import pytest
from test_methods import overrides

from ssl_jax.build import build
from ssl_jax.config import load
from ssl_jax.errors import UserError
from ssl_jax.plan import __main__ as command
from ssl_jax.plan import compilation, page, plans, table, topology
from ssl_jax.plan.chips import CHIPS
from ssl_jax.plan.estimate import estimate
from ssl_jax.plan.images import unseen

ROOT = pathlib.Path(__file__).parents[2]
SIMCLR = "configs/simclr.py"


def run(capsys, *arguments):
    """Runs the command; returns what it printed."""
    command.main(command.parser().parse(list(arguments)))
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def tiny():
    return [f"--config.{key}={value}" for key, value in overrides("simclr", **{"mesh.dcn": "2"})]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(compilation, "CACHE", tmp_path_factory.mktemp("plans"))
    patch.chdir(ROOT)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def eight(tiny, cache):
    """The plan of a tiny SimCLR on eight devices, four in each of two slices."""
    changes = [tuple(one.removeprefix("--config.").split("=", 1)) for one in tiny]
    (found,) = plans.plan(SIMCLR, [topology.open_topology("2xcpu:4")], changes)
    return found


def test_the_step_that_would_run_is_compiled_without_its_images(eight):
    facts = eight.facts
    run = load(SIMCLR, overrides("simclr"))
    assert (facts.batch_size, facts.steps, facts.devices) == (run.batch_size, run.steps, 8)
    assert facts.aliased == facts.donated  # every array of the old state makes room for the new one
    assert facts.flops["network"] > 0
    assert facts.flops["augmentation"] > 0
    assert facts.peak >= facts.arguments + facts.temporaries


def test_what_is_communicated(eight):
    """Gradients once, statistics of BatchNorm; no images: the augmentation needs nothing of other devices."""
    by_origin = dict.fromkeys(("gradients", "BatchNorm", "augmentation"), 0)
    for one in eight.facts.collectives:
        by_origin[one.origin] = by_origin.get(one.origin, 0) + one.bytes
    assert all((one.group, one.slices) == (8, 2) for one in eight.facts.collectives if one.origin == "gradients")
    assert by_origin["augmentation"] == 0
    assert by_origin["BatchNorm"] > 0
    assert (
        0.9 * 4 * eight.facts.parameters < by_origin["gradients"] + by_origin["BatchNorm"] < 8 * eight.facts.parameters
    )


def test_a_batchnorm_communicates_once_forward_and_once_backward(eight):
    """Its sums of a pass share an all-reduce, and no layer can share one with the next, which needs its result."""
    shapes = build(eight.config, *[unseen(eight.config)] * 2, devices=8).shapes
    layers = sum("'var'" in jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes[1]))
    number = sum(one.number for one in eight.facts.collectives if one.origin == "BatchNorm")
    assert layers < number <= 2 * layers


def test_a_table_and_json_from_the_cache(eight, tiny, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(compilation, "compiled", lambda *_: pytest.fail("compiled again"))
    arguments = [f"--config={SIMCLR}", "--topology=2xcpu:4", *tiny]
    text = run(capsys, *arguments)
    assert f"{eight.facts.aliased} of {eight.facts.donated}" in text
    assert "all-reduce, gradients: MB sent between slices" in text
    (row,) = json.loads(run(capsys, *arguments, "--json", f"--out={tmp_path}"))
    assert row["parameters"] == eight.facts.parameters
    assert page.rows(tmp_path) == [row]
    assert f"| {row['config']} |" in (tmp_path / "plans.md").read_text()


def test_a_plan_for_a_chip_says_what_would_fit(eight):
    chip = CHIPS["v5e"]
    large = dataclasses.replace(eight.facts, batch_size=128, peak=40 * 2**30, arguments=2**30)
    lines = "\n".join(table.advice(eight._replace(facts=large, chip=chip)))
    assert "needs 40.00 GiB of the 15.20" in lines
    keys = ("network.dtype=bfloat16", "network.remat=true", "network.chunks=4", "batch_size=40", "32 chips")
    assert all(key in lines for key in keys), lines
    assert table.advice(eight._replace(chip=chip)) == []


def test_a_plan_of_slices_says_which_network_binds(eight):
    chip = CHIPS["v5e"]._replace(dcn=1.0)
    slow = eight._replace(chip=chip, estimate=estimate(eight.facts, chip))
    text = table.table([slow])
    assert re.search(r"^bound by +dcn$", text, re.MULTILINE)
    assert "dcn, ms per step" in text
    alone = dataclasses.replace(eight.facts, collectives=())
    assert "dcn" not in table.table([eight._replace(chip=chip, facts=alone, estimate=estimate(alone, chip))])
    number = sum(one.number for one in eight.facts.collectives if one.slices == 2)
    assert f"sends {number} times between slices" in table.trust(slow)[-1]


def test_all_recipes_of_papers_and_only_those_that_a_page_lacks(monkeypatch, tmp_path, capsys):
    names = plans.published()
    assert {"byol:imagenet", "moco_v2:imagenet", "clip:yfcc15m"} <= set(names)
    wanted = ["byol:imagenet", "crd:imagenet", "simclr:imagenet"]
    monkeypatch.setattr(plans, "published", lambda: wanted)
    done = []

    def quick(config, images, where):
        if config.method.name == "crd":
            raise UserError("it needs a teacher")
        done.append(config.method.name)
        size = {"topology": where.name, "chips": 8, "devices": 8, "batch_size": 8, "steps": 1, "parameters": 1}
        return compilation.Facts(**size, peak=1)

    monkeypatch.setattr(plans, "check", lambda *_: None)
    monkeypatch.setattr(plans, "measure", quick)
    for _ in range(2):
        plans.fill(tmp_path, [topology.open_topology("cpu:8")])
    assert done == ["byol", "simclr"]
    assert "crd:imagenet on cpu:8: it needs a teacher" in capsys.readouterr().out
    assert [row["config"] for row in page.rows(tmp_path)] == ["byol:imagenet", "simclr:imagenet"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--topology=v5x:4x4"], "unknown chip in --topology=v5x:4x4; did you mean 'v5p'"),
        (["--topology=v5e"], "write it as in v5e:4x4"),
        (["--topology=v5e:2x2x2"], "no part of a pod of 16x16 chips"),
        (["--topology=v4:4x4x32"], "no part of a pod of 16x16x16 chips; write it as in v4:4x4x4"),
        (["--topology=cpu:some"], "write cpu:8"),
        (["--topology=2xcpu:4"], "mesh.dcn is 1, but the slices of --topology=2xcpu:4 are 2; set --config.mesh.dcn=2"),
        (["--topology=2xv3:4x4"], "slices of v3 have no network between them"),
        (["--topology=cpu:64"], "needs 64 virtual devices, but XLA_FLAGS sets 8"),
        (["--topology=cpu:5000"], "has 5,000 devices; a CPU stands in for 4,096 at most"),
        (["--topology=cpu:8,cpu:3"], "batch of 64 images cannot be split over 3 devices"),
        (["--topology=cpu:8", "--config.data.source=folder:/some"], "say how many images it has, as in --images="),
        (["--topology=cpu:8", "--images=-5"], "--images is -5; set it to 0 or more"),
        (["--topology=cpu:8", "--all"], "name one run to plan"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence, capsys):
    with pytest.raises(UserError, match=sentence.replace("?", r"\?")):
        run(capsys, f"--config={SIMCLR}", *arguments)


def test_without_the_compiler_of_tpus(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'ssl_jax\[plan\]'"):
        run(capsys, f"--config={SIMCLR}", "--topology=v5e:2x2")


def test_a_damaged_page_is_told_of_before_long_work(tmp_path, capsys):
    (tmp_path / page.FILE).write_text("[")
    with pytest.raises(UserError, match=r"plans\.json is not JSON"):
        run(capsys, f"--config={SIMCLR}", "--topology=cpu:8", f"--out={tmp_path}")


def test_a_recipe_is_the_same_in_any_folder(tmp_path, monkeypatch):
    here = plans.digest(load("cast:imagenet"))
    monkeypatch.chdir(tmp_path)
    assert plans.digest(load("cast:imagenet")) == here != plans.digest(load("cast:imagenet", [("batch_size", "128")]))


def test_sets_are_known_by_their_number_of_images():
    assert len(unseen(load("byol:imagenet"))) == 1_281_167
    images = unseen(load("cast:imagenet"), images=1000, classes=3)
    assert (len(images), images.classes) == (1000, ("0", "1", "2"))
    assert "mask" in images.fields
    with pytest.raises(TypeError):
        images[0]


def test_tpus_that_are_not_there():
    """Two slices send each other gradients and statistics, and the program of each has collectives within it."""
    pytest.importorskip("libtpu", reason="needs the extra plan")
    found = topology.open_topology("2xv5e:2x2")
    assert (found.chips, len(found.devices), found.slices) == (8, 8, 2)
    assert len(topology.open_topology("v4:2x2x1").devices) == 4  # both cores of a chip are one
    (plan,) = plans.plan(SIMCLR, [found], overrides("simclr", **{"mesh.dcn": "2"}))
    sent = {one.origin for one in plan.facts.collectives if (one.group, one.slices) == (2, 2)}
    assert {"gradients", "BatchNorm", "loss"} <= sent
    assert any((one.group, one.slices) == (4, 1) for one in plan.facts.collectives)
    assert plan.estimate.dcn > 0
    assert plan.facts.aliased == plan.facts.donated
    assert plan.facts.flops["network"] > 0
    assert plan.estimate.images_per_second > 0
    assert jax.default_backend() == "cpu"
