"""How long a run is: minutes as steps, measured once, and finished runs made longer."""

import json
import shutil

import pytest
from test_methods import ROOT, overrides
from test_workdir import QUICK, STEPS, start

from ssl_jax import checkpoint, length
from ssl_jax.build import build
from ssl_jax.config import load
from ssl_jax.errors import UserError
from ssl_jax.monitor.writers import read


def byol(**changes):
    changed = [*overrides("byol"), *((key.replace("__", "."), str(value)) for key, value in changes.items())]
    return build(load(str(ROOT / "configs" / "byol.py"), changed))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two steps that was to be one of three ten-thousandths of a minute."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(length, "seconds_per_step", lambda run: 0.0072)
        start(workdir, steps="", minutes=3e-4)
    return workdir


def test_minutes_become_steps_once(finished, capsys, monkeypatch):
    assert read(finished / "metrics.jsonl")[-1]["step"] == STEPS  # 0.018 s / 0.0072 s, rounded down
    stored = json.loads((finished / "config.json").read_text())
    assert (stored["minutes"], stored["steps"]) == (3e-4, STEPS)
    monkeypatch.setattr(length, "seconds_per_step", lambda run: pytest.fail("measured again"))
    start(finished, steps="", minutes=3e-4)
    assert f"finished: {finished} has all of its 2 steps" in capsys.readouterr().out


def test_what_minutes_mean_is_said(capsys, monkeypatch):
    monkeypatch.setattr(length, "seconds_per_step", lambda run: 0.25)
    run = length.fix(byol(steps="", minutes=2))
    epochs = 480 / run.steps_per_epoch
    assert (run.steps, run.config.steps) == (480, 480)
    assert float(run.method.decay(480)) == pytest.approx(1.0)  # schedules know
    said = capsys.readouterr().out
    assert said == f"in 2 min there are 480 steps or {epochs:.1f} epochs, at 64 images/s; evaluation comes on top\n"
    assert length.fix(run) is run


def test_durations_that_are_longer_than_the_run_are_named():
    rules = '(("predictor",{"freeze":"21 steps"}),)'
    changes = {"optimizer__rules": rules, "optimizer__warmup": "2 epochs", "evaluate__every": "9 epochs"}
    said = length.outlasting(byol(steps=20, method__decay__duration="20 steps", **changes))
    longer = "optimizer.warmup (2 epochs), freeze of 'predictor' in optimizer.rules (21 steps)"
    assert said.startswith(f"note: the run ends after 20 steps, before the end of {longer}; fine for a trial, else")
    assert length.outlasting(byol(steps=21, optimizer__rules=rules, optimizer__warmup="21 steps")) is None


def test_the_canvas_stays_when_minutes_are_fixed(monkeypatch):
    monkeypatch.setattr(length, "seconds_per_step", lambda run: 0.25)
    run = byol(steps="", minutes=2)
    assert run.canvas > run.config.data.size
    assert length.fix(run).canvas == run.canvas


def test_the_speed_of_a_step_is_that_of_every_size(monkeypatch):
    """Of a clock that ticks once per step at the first size, and three times at the second."""
    monkeypatch.setattr(length, "ENOUGH", 4)
    run = byol(resolution__sizes="(16,20)", resolution__mode="repeat", steps="", epochs=4)
    ticks = [0]
    programs = [lambda state, *_, cost=cost: (ticks.__setitem__(0, ticks[0] + cost), {}) for cost in (1, 3)]

    class Trainer(length.Trainer):
        def __init__(self, *args):
            super().__init__(*args)
            self.programs = programs

        init = dict

    monkeypatch.setattr(length, "Trainer", Trainer)
    monkeypatch.setattr(length.time, "monotonic", lambda: ticks[0])
    assert length.seconds_per_step(run) == 2


def test_a_real_step_takes_time(finished, monkeypatch):
    monkeypatch.setattr(length, "ENOUGH", 0.0)
    run = byol(**QUICK | {"steps": "", "epochs": STEPS / 625})  # compiled for the finished run
    assert run.steps == STEPS
    assert 0 < length.seconds_per_step(run) < 60


def test_a_finished_run_becomes_longer(finished, tmp_path, capsys):
    workdir = shutil.copytree(finished, tmp_path / "run")
    start(workdir, steps=3)
    said = capsys.readouterr().out
    assert "extends the run from 2 to 3 steps: its schedules now end there, so the learning rate goes on" in said
    assert "resumes at step 2\n" in said
    assert checkpoint.steps(workdir / "checkpoints") == [2, 3]
    rows = read(workdir / "metrics.jsonl")
    assert [row["step"] for row in rows if "linear_top1" in row] == [2, 3]  # each end was evaluated
    start(workdir, steps=3)
    assert "finished" in capsys.readouterr().out


@pytest.mark.parametrize(("steps", "taken"), [(1, 2), (4, 1)])
def test_a_run_that_is_not_at_its_end_keeps_its_length(finished, tmp_path, steps, taken):
    workdir = shutil.copytree(finished, tmp_path / "run")
    if taken == 1:
        shutil.rmtree(workdir / "checkpoints" / "2")
    before = (workdir / "config.json").read_bytes()
    with pytest.raises(UserError) as caught:
        start(workdir, steps=steps)
    said = str(caught.value)
    assert f"has 2 steps, {taken} of them taken, and would now have {steps}; only a finished run can" in said
    assert f"set steps=2, or start another run from its weights, with --config.init.from={workdir}" in said
    assert (workdir / "config.json").read_bytes() == before
