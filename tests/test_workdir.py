"""Opening a run: the owner of a workdir, what a run starts from, and the line that says so."""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from test_methods import ROOT
from test_train import arguments, train

from ssl_jax import checkpoint, main, parallel, pretrained
from ssl_jax import train as training
from ssl_jax.build import build
from ssl_jax.checkpoint import SEAL, Checkpoints
from ssl_jax.config import load
from ssl_jax.errors import UserError
from ssl_jax.monitor import summary
from ssl_jax.monitor.writers import read
from ssl_jax.trainer import Trainer
from ssl_jax.workdir import LOCK, check_unused, claim, hold

STEPS = 2
# A run as quick as can be: views without changes of colour, and nothing measured.
QUICK = {f"augment__{name}": 0 for name in ("jitter", "gray", "blur", "solarize")}
QUICK |= {"steps": STEPS, "checkpoint__every": 1}


class Evaluator:
    """In place of the real one, which compiles programs of its own."""

    def __init__(self, run, mesh):
        self.run, self.mesh = run, mesh

    def baselines(self, state):
        return {f"{name}_{kind}_top1": 10.0 for name in ("raw", "init") for kind in ("knn", "linear")}

    def extract(self, state):
        return True

    def measure(self, features, probe):
        return {"knn_top1": 20.0}

    def across_sizes(self, features, state):
        return []

    def matching(self, state):
        return {}

    def conclude(self, features, picture):
        return {"linear_top1": 30.0}


def start(workdir, **changes):
    """Runs the command for a tiny BYOL."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "Evaluator", Evaluator)
        for pictures in (training.preview, training.see):
            patch.setattr(pictures, "write", lambda *_: None)
        train("byol", workdir, **QUICK | changes)


@pytest.fixture(scope="module")
def source(teacher, tmp_path_factory):
    """A copy of a trained run, which a test may take away."""
    return shutil.copytree(teacher, tmp_path_factory.mktemp("source") / "run")


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def stopped(source, tmp_path_factory):
    """The workdir of a run that started from weights and was stopped in its second step."""
    workdir = tmp_path_factory.mktemp("stopped") / "run"

    def step(trainer, state, batch, taken, original=Trainer.step):
        if int(jax.device_get(state.step)) == STEPS - 1:
            raise Stopped
        return original(trainer, state, batch, taken)

    reads = []

    def read_start(name, original=pretrained.read_start):
        reads.append(name)
        return original(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", step)
        patch.setattr(pretrained, "read_start", read_start)
        with pytest.raises(Stopped):
            start(workdir, init__from=source)
    assert reads == [str(source)]  # once, to check it and to start from it
    assert checkpoint.steps(workdir / "checkpoints") == [1]
    return workdir


@pytest.fixture
def workdir(stopped, tmp_path):
    """A copy of `stopped` to go on with."""
    return shutil.copytree(stopped, tmp_path / "run")


def change(path, edit):
    """Edits a JSON file."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def files(folder):
    """What a folder holds, but for the lock."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != LOCK}


def test_an_older_run_goes_on_with_other_evaluation_and_logs_though_its_source_is_gone(
    workdir, source, tmp_path, capsys, monkeypatch
):
    change(workdir / "config.json", lambda config: (config["data"].pop("masks"), config.pop("log")))
    moved = source.rename(tmp_path / "elsewhere")
    try:
        start(workdir, init__from=source, evaluate__every=1, evaluate__neighbours=5, log__every=2, checkpoint__keep=1)
    finally:
        moved.rename(source)
    said = capsys.readouterr().out
    assert "\nresumes at step 1\n" in said  # and not from the weights
    assert "random" not in said
    assert re.search(r"^starting weights +10\.0 +10\.0$", said, re.MULTILINE)
    assert "random initialisation" in summary(workdir)  # of a run without init.from
    assert "10.0 points above starting weights" in (workdir / "report.html").read_text()
    assert checkpoint.steps(workdir / "checkpoints") == [STEPS]
    assert read(workdir / "metrics.jsonl")[-1]["step"] == STEPS
    stored = json.loads((workdir / "config.json").read_text())
    assert (stored["data"]["masks"], stored["evaluate"]["neighbours"], stored["log"]["every"]) == (False, 5, 2)


def refused(workdir, **changes):
    """Returns what the command says, which must change nothing in the workdir."""
    before = files(workdir)
    with pytest.raises(UserError) as caught:
        start(workdir, **changes)
    assert files(workdir) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "difference"),
    [
        ("evaluate.labels", "ignored", "evaluate.labels ('auto' there, 'ignored' now)"),
        ("evaluate.source", "embedded:fashion_mnist", "evaluate.source (unset there, 'embedded:fashion_mnist' now)"),
        ("data.canvas", 20, "data.canvas (unset there, 20 now)"),
        ("init.from", "runs/other", "now)"),
    ],
)
def test_what_shapes_the_run_is_refused_by_its_key_and_values(workdir, source, key, value, difference):
    said = refused(workdir, **{"init__from": source} | {key.replace(".", "__"): value})
    assert f"holds another run, which differs in {key} (" in said
    assert difference in said
    assert said.endswith("to go on with that run set them as they were there, else name another --workdir")


def test_a_run_that_differs_in_much_names_its_method_and_some_of_the_rest(workdir, source):
    def edit(config):
        config |= {f"old{i}": i for i in range(9)}
        config["method"] = {"name": "byol_v2"}

    change(workdir / "config.json", edit)
    said = refused(workdir, init__from=source)
    assert "differs in method.name ('byol_v2' there, 'byol' now), " in said
    assert said.count(" now)") == 5
    assert re.search(r" and \d+ more; to go on", said)


@pytest.mark.parametrize("version", [None, 1, checkpoint.FORMAT + 1])
def test_checkpoints_of_another_format_are_refused_and_left_alone(workdir, source, version):
    seal = workdir / "checkpoints" / "1" / SEAL
    change(seal, lambda content: content.pop("format") if version is None else content.update(format=version))
    said = refused(workdir, init__from=source, log__every=7)
    assert f"the checkpoint of step 1 in {workdir / 'checkpoints'} has format {version or 1}" in said
    assert f"this version reads {checkpoint.FORMAT}: finish the run with the version of ssl_jax that began it" in said


def test_another_format_is_said_before_keys_that_came_with_it(workdir, source):
    change(workdir / "checkpoints" / "1" / SEAL, lambda content: content.update(format=1))
    assert "has format 1" in refused(workdir, init__from=source, steps=9)


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_damaged_config_is_left_alone(workdir, source, text):
    (workdir / "config.json").write_text(text)
    assert "config.json is damaged; restore it or name another --workdir" in refused(workdir, init__from=source)


HOLD = """
import pathlib, sys, time
from ssl_jax.config import load
from ssl_jax.errors import UserError
from ssl_jax.workdir import hold
with hold(pathlib.Path(sys.argv[1]), load("configs/byol.py")):
    print("mine", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def config():
    return load(str(ROOT / "configs" / "byol.py"))


def test_a_workdir_is_held_by_one_process_until_it_ends_however_it_ends(tmp_path, config):
    workdir = tmp_path / "run"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, workdir], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "mine\n"
        before = files(workdir)
        config.log.every = 3  # free to change, but not by who does not hold the workdir
        with pytest.raises(UserError) as caught, hold(workdir, config):
            pass
        assert re.fullmatch(
            rf"{workdir} is in use by process {other.pid} on \S+ since [-\d]+ [:\d]+; wait for it, stop it, or name "
            "another --workdir",
            str(caught.value),
        )
        with pytest.raises(UserError, match="in use by process"):
            check_unused(workdir)
        assert files(workdir) == before
    finally:
        other.send_signal(signal.SIGKILL)
        other.communicate()
    for _ in range(2):  # after a kill, and after an end
        with hold(workdir, config):
            assert f"process {os.getpid()} on" in (workdir / LOCK).read_text()
        assert json.loads((workdir / "config.json").read_text())["log"]["every"] == 3


def test_who_waits_for_the_lock_sees_what_the_faster_one_claimed(tmp_path, config, monkeypatch):
    """Between the check and the lock another command may claim the workdir for another run."""
    other = load(str(ROOT / "configs" / "byol.py"), [("seed", "1")])

    def faster(*args, flock=fcntl.flock):
        claim(tmp_path, other)
        flock(*args)

    monkeypatch.setattr(fcntl, "flock", faster)
    with pytest.raises(UserError, match=r"seed \(1 there, 0 now\)"), hold(tmp_path, config):
        pass
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 1


def test_a_file_system_without_locks_is_warned_of(tmp_path, config, monkeypatch, capsys):
    def flock(*args):
        raise OSError(errno.ENOSYS, "no locks")

    monkeypatch.setattr(fcntl, "flock", flock)
    with hold(tmp_path, config):
        assert (tmp_path / "config.json").exists()
    assert "knows no locks; start no second command in it" in capsys.readouterr().out


def test_an_error_while_a_workdir_is_held_is_not_taken_for_one_of_the_workdir(tmp_path, config):
    with pytest.raises(FileNotFoundError), hold(tmp_path, config):
        (tmp_path / "none").read_text()
    with contextlib.ExitStack() as stack:
        stack.enter_context(hold(tmp_path, config))  # it has been let go of


def test_the_three_ways_to_start_are_said_in_one_line(stopped, source, tmp_path, capsys):
    options = main.parser().parse(arguments("byol", tmp_path, **QUICK, init__from=source))
    trainer = Trainer(build(load(options.config, options.overrides)), parallel.make_mesh())
    theirs = checkpoint.read_arrays(source / "checkpoints", 3, checkpoint.array_names(source / "checkpoints", 3))

    def begin(trainer, folder):
        with Checkpoints(folder) as checkpoints:
            step, state = training.start(trainer, checkpoints)
        said = capsys.readouterr().out
        assert said.count("\n") == 1
        kernel = np.asarray(state.params["network"]["encoder"]["stem_conv1"]["kernel"])
        return step, said, np.array_equal(kernel, theirs["params/network/encoder/stem_conv1/kernel"])

    step, said, taken = begin(trainer, tmp_path / "new")
    assert (step, taken) == (0, True)
    assert said.startswith(f"starts from {source} at step 3: takes ")
    assert begin(trainer, stopped / "checkpoints") == (1, "resumes at step 1\n", False)
    trainer.run.config.init["from"] = None
    assert begin(trainer, tmp_path / "new") == (0, "starts anew\n", False)
