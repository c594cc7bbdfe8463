"""Whole runs through the real command: they end, resume bit for bit, stop on request, and report failures."""

import json
import os
import resource
import signal

import chex
import jax
import jax.numpy as jnp
import killing
import numpy as np
import pytest
from killing import measured
from test_checkpoint import flip, largest
from test_methods import BARE, ROOT, overrides

from ssl_jax import augment, checkpoint, data, main, trainer
from ssl_jax.build import build
from ssl_jax.config import load
from ssl_jax.errors import UserError
from ssl_jax.monitor.writers import read
from ssl_jax.report.run import PICTURES
from ssl_jax.trainer import TrainState, make_program
from ssl_jax.workdir import LOCK, WRITTEN

LAST = 12
CACHE = str(ROOT / ".pytest_cache" / "jax")
FLAGS = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count={}")


def arguments(name, workdir, **changes):
    values = (
        dict(overrides(name))
        | {"steps": str(LAST)}
        | {key.replace("__", "."): str(value) for key, value in changes.items()}
    )
    changed = [f"--config.{key}={value}" for key, value in values.items()]
    return [f"--config={ROOT / 'configs' / f'{name}.py'}", f"--workdir={workdir}", *changed]


def train(*args, **changes):
    """Runs the command in this process."""
    main.main(main.parser().parse(arguments(*args, **changes)))


LIGHT = {key.replace(".", "__"): value for key, value in BARE.items()} | {"evaluate__labels": "ignored"}


def start(name, workdir, devices=2, process="", environment=None, **changes):
    """Starts the command in a process that is quickly there, with its output beside the workdir."""
    environment = {"XLA_FLAGS": FLAGS.format(devices), "JAX_COMPILATION_CACHE_DIR": CACHE} | (environment or {})
    output = workdir.with_suffix(f".{process}txt")
    return killing.start(arguments(name, workdir, **changes), environment, output), output


@pytest.mark.slow
@pytest.mark.parametrize("name", ["byol", "moco_v2", "swav", "instdisc", "deepcluster"])
def test_a_killed_run_ends_as_if_it_had_not_been(name, tmp_path):
    """The last one between two clusterings; for SimCLR see the ten kills below."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    changes = {} if name == "byol" else LIGHT  # one of them with evaluation and all views
    killing.finish(*start(name, whole, **changes))
    process, output = start(name, killed, **changes)
    killing.kill(process, killed, "stepping", np.random.default_rng(0), output, within=7)
    assert not (killed / "checkpoints" / str(LAST)).exists()
    killing.finish(*start(name, killed, **changes))
    killing.assert_same(whole, killed)


@pytest.mark.slow
def test_a_run_killed_ten_times_ends_as_if_it_had_not_been(tmp_path):
    """See `benchmarks/kill.py` for a hundred times."""
    changes = LIGHT | {"steps": 100, "checkpoint__every": 3, "network__encoder__layers": "(1,)"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    killing.finish(*start("simclr", whole, **changes))
    random = np.random.default_rng(0)
    writing = 0
    for i in range(10):
        process, output = start("simclr", killed, **changes)
        writing += killing.kill(process, killed, killing.MOMENTS[i % 3], random, output)
    assert writing

    process, output = start("simclr", killed, **changes)  # as if the disk were full
    killing.wait_for_row(process, killed, killing.saved(killed) + 1, output)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, 1000))
    process.join(120)
    assert process.exitcode == 2
    assert "error: a file may not become as large: raise the limit" in output.read_text()

    last, before = checkpoint.steps(killed / "checkpoints")[:-3:-1]
    flip(largest(killed / "checkpoints" / str(last), "d/*"))
    process, output = start("simclr", killed, **changes)
    killing.finish(process, output)
    assert f"the checkpoint of step {last} is damaged" in output.read_text()
    assert f"resumes at step {before}" in output.read_text()
    killing.assert_same(whole, killed)


def views_at(monkeypatch, each):
    """Returns a balanced run, and the views of eight of its images as functions of the step and of the visit."""
    monkeypatch.setattr(trainer, "train_step", lambda method, optimizer, train, batch, *_: (train, batch))
    changes = [*overrides("triplet"), ("data.images_per_class", each)]
    run = build(load(str(ROOT / "configs" / "triplet.py"), changes))
    raw = jax.device_put(data.read(run.source, np.arange(8, dtype=np.int32), run.canvas))
    program = jax.jit(make_program(run, resident=False))
    key = jax.random.key(run.config.seed)

    def views(step):
        _, batch = program(TrainState(jnp.int32(step), None, None, None, None), raw, None, key)
        return jax.device_get(batch["views"][0])

    return run, views, lambda visit: jax.device_get(augment.batch(run.recipe, key, raw, visit)["views"][0])


def test_an_image_looks_different_each_time_a_balanced_order_draws_it(monkeypatch):
    run, views, _ = views_at(monkeypatch, "4")
    steps = range(run.steps_per_epoch)
    drawn = np.concatenate([run.order(step) for step in steps])
    assert len(set(drawn.tolist())) < len(drawn)  # within one epoch's steps images come twice
    first, second = views(0), views(1)
    for a, b in zip(first, second, strict=True):
        assert np.abs(a - b).max() > 0.1


def test_an_image_of_a_shuffled_order_looks_different_in_each_epoch(monkeypatch):
    run, views, augmented = views_at(monkeypatch, "")
    last = run.steps_per_epoch - 1
    np.testing.assert_array_equal(views(0), views(last))
    for a, b in zip(views(last), views(last + 1), strict=True):
        assert np.abs(a - b).max() > 0.1
    np.testing.assert_allclose(views(last + 1), augmented(1), atol=1e-5)  # the epoch is the clock


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "byol"
    train("byol", workdir)
    return workdir


def test_a_run_leaves_what_the_contract_says(finished):
    assert json.loads((finished / "config.json").read_text())["method"]["name"] == "byol"
    rows = read(finished / "metrics.jsonl")
    first = {key: value for row in rows if row["step"] == 0 for key, value in row.items()}
    last = {key: value for row in rows if row["step"] == LAST for key, value in row.items()}
    assert {"raw_knn_top1", "init_knn_top1", "raw_linear_top1", "init_linear_top1"} <= first.keys()
    assert {"loss", "learning_rate", "knn_top1", "probe_top1", "linear_top1", "rank", "projection_std"} <= last.keys()
    assert all(0 <= value <= 100 for key, value in (first | last).items() if key.endswith("top1"))
    for file in ("report.html", "views.png", "neighbours.png", "components.png", "environment.json"):
        assert (finished / file).stat().st_size > 0
    assert (finished / "report.html").read_text().count("<img") == 3  # a ResNet has no attention to show
    assert list((finished / "tensorboard").iterdir())
    assert checkpoint.steps(finished / "checkpoints")[-1] == LAST
    assert {path.name for path in finished.iterdir()} <= {"config.json", LOCK, *WRITTEN}
    assert set(PICTURES) <= set(WRITTEN)


def test_a_finished_run_says_so(finished, capsys):
    before = (finished / "metrics.jsonl").read_text()
    train("byol", finished)
    assert "finished" in capsys.readouterr().out
    assert (finished / "metrics.jsonl").read_text() == before


def test_a_run_killed_before_its_report_only_writes_that(finished):
    before, page = (finished / "metrics.jsonl").read_text(), finished / "report.html"
    page.unlink()
    train("byol", finished)
    assert page.exists()
    assert (finished / "metrics.jsonl").read_text() == before


def test_a_changed_config_is_refused_by_its_keys(finished):
    with pytest.raises(UserError, match=r"another run.*optimizer\.learning_rate"):
        train("byol", finished, optimizer__learning_rate=0.123)


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path):
    endless = {"steps": 100_000, "checkpoint__every": 100_000, "evaluate__every": 0}
    process, output = start("simclr", tmp_path / "run", **LIGHT | endless)
    killing.wait_for_row(process, tmp_path / "run", 5, output)
    os.kill(process.pid, signal.SIGINT)
    process.join(120)
    assert process.exitcode == 130, output.read_text()
    assert "by SIGINT, everything is saved; the same command resumes" in output.read_text()
    (step,) = checkpoint.steps(tmp_path / "run" / "checkpoints")
    assert step >= 5


def test_a_maintenance_notice_saves_and_has_its_exit_code(tmp_path, metadata, monkeypatch, capsys):
    monkeypatch.setenv("GCE_METADATA_HOST", metadata({"preempted": "TRUE"}))
    rows, checkpoints = tmp_path / "run" / "metrics.jsonl", tmp_path / "run" / "checkpoints"
    early, fsync = set(), os.fsync  # steps whose metrics are on disk before their checkpoint

    def watched(number):
        fsync(number)
        if rows.exists() and os.path.samestat(os.fstat(number), rows.stat()):
            early.update({read(rows)[-1]["step"]} - {*checkpoint.steps(checkpoints)})

    def stopped():
        with pytest.raises(SystemExit) as ended:
            train("simclr", tmp_path / "run", **LIGHT | {"steps": 40, "network__encoder__layers": "(1,)"})
        assert ended.value.code == 75
        return capsys.readouterr().out

    monkeypatch.setattr(os, "fsync", watched)
    assert "by preempted TRUE, everything is saved; the same command resumes" in stopped()
    assert checkpoint.latest_good(checkpoints) in early

    rows.unlink()
    monkeypatch.setattr("ssl_jax.evaluate.kept.known", lambda *of: {"raw_knn_top1": 1.0})
    assert "metrics.jsonl is gone; curves begin at step" in stopped()
    assert read(rows)[0] == {"step": 0, "raw_knn_top1": 1.0}


def test_training_that_diverges_stops_with_the_step_and_keeps_its_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r"diverged at step \d+.*lower learning rate"):
        train(
            "simclr",
            tmp_path / "run",
            optimizer__learning_rate=1e38,
            optimizer__schedule="constant",
            checkpoint__every=1,
        )
    folder = tmp_path / "run" / "checkpoints"
    for step in checkpoint.steps(folder):  # nothing that training could not go on from
        assert checkpoint.find_fault(folder / str(step)) is None
        names = [name for name in checkpoint.array_names(folder, step) if name.startswith("params/")]
        assert all(np.isfinite(array).all() for array in checkpoint.read_arrays(folder, step, names).values())


def write_images(folder, count):
    """Images of noise, no two of one shape."""
    from PIL import Image

    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(count):
        image = random.integers(256, size=(20 + i, 60 - i, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / f"{i}.png")
    return folder


def test_images_without_labels_train_without_evaluation(tmp_path):
    folder = write_images(tmp_path / "images", 40)
    train("swav", tmp_path / "run", data__source=f"folder:{folder}", evaluate__every=6)
    rows = read(tmp_path / "run" / "metrics.jsonl")
    assert rows[-1]["step"] == LAST
    assert not any("knn_top1" in row or "probe_loss" in row for row in rows)
    assert any("rank" in row for row in rows)
    assert (tmp_path / "run" / "report.html").exists()


def test_images_of_many_shapes_are_trained_on_measured_and_drawn(tmp_path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            write_images(tmp_path / "images" / split / name, 20)
    train("simclr", tmp_path / "run", data__source=f"folder:{tmp_path / 'images'}", steps=2)
    assert any("linear_top1" in row for row in read(tmp_path / "run" / "metrics.jsonl"))
    assert (tmp_path / "run" / "neighbours.png").exists()


@pytest.mark.parametrize("name", ["simclr", "cast"])  # without and with masks
def test_reading_from_the_host_gives_the_numbers_of_a_set_on_the_device(name, tmp_path):
    train(name, tmp_path / "device", steps=3)
    train(name, tmp_path / "host", steps=3, data__device_bytes=0)
    # Two programs, which may differ by rounding.
    chex.assert_trees_all_close(measured(tmp_path / "device"), measured(tmp_path / "host"), rtol=1e-5)
