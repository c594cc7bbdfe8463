"""Commands as processes: exit codes, one line on standard error, help; and the preview."""

import errno
import os
import resource
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image
from test_methods import KINDS, ROOT, overrides

from ssl_jax import command, main, preview
from ssl_jax.checkpoint import Checkpoints
from ssl_jax.config import load
from ssl_jax.errors import UserError
from ssl_jax.report.pictures import GAP, LINE


def finish(*line):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *line], cwd=ROOT, env=environment, text=True, capture_output=True)


def check_fails(process, *parts):
    """Checks for exit code 2, silence on standard output and one line on standard error, which holds some parts."""
    assert (process.returncode, process.stdout) == (command.USAGE, ""), process
    assert process.stderr.startswith("error: ")
    assert process.stderr.count("\n") == 1
    assert all(part in process.stderr for part in parts), process.stderr


@pytest.mark.parametrize(
    ("change", "sentence"),
    [("batchsize=8", "did you mean 'batch_size'?"), ("data.source=tfds:cifar10", "prepare it once with python -c")],
)
def test_a_mistake_is_one_line_and_exit_code_2(change, sentence, tmp_path):
    workdir = tmp_path / "run"
    line = ["--config=configs/byol.py", f"--workdir={workdir}", f"--config.data.dir={tmp_path}", f"--config.{change}"]
    check_fails(finish("-m", "ssl_jax.main", *line), sentence)
    assert not workdir.exists()


def test_out_of_memory_on_the_device_says_what_to_lower():
    program = """
import jax
from ssl_jax import command, main

def work(options):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\\nmore")

command.run(work, main.parser())
"""
    check_fails(finish("-c", program, "--config=x"), "out of memory: lower batch_size", "allocating 9 bytes.")


@pytest.fixture
def run_raising(monkeypatch):
    """Runs a command whose work raises an error, in this process."""

    def run(error):
        def work(options):
            raise error

        monkeypatch.setattr("sys.argv", ["main", "--config=x"])
        monkeypatch.setattr("os._exit", sys.exit)
        command.run(work, main.parser())

    return run


def test_out_of_memory_on_the_host_says_what_to_lower(run_raising, capsys):
    with pytest.raises(SystemExit, match=str(command.USAGE)):
        run_raising(MemoryError())
    assert "out of memory on the host: lower data.host_bytes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "the disk is full: make room; all checkpoints before are kept, and the same command resumes"),
        (errno.EDQUOT, "your disk quota is used up"),
        (errno.EFBIG, "a file may not become as large: raise the limit, ulimit -f unlimited"),
        (errno.EROFS, "the file system can only be read now: mount it anew"),
    ],
)
def test_a_disk_without_room_says_so(number, sentence, run_raising, capsys):
    late = RuntimeError("a clean-up that failed, too")
    late.__context__ = OSError(number, os.strerror(number), "metrics.jsonl")
    for error in (
        late,
        late.__context__,
        ValueError(f"RESOURCE_EXHAUSTED: Failed to write: {os.strerror(number)} [28]"),
    ):
        with pytest.raises(SystemExit, match=str(command.USAGE)):
            run_raising(error)
        said = capsys.readouterr().err
        assert said.startswith(f"error: {sentence}")
        assert said.count("\n") == 1


def test_a_checkpoint_that_may_not_be_written_is_explained(tmp_path):
    """With the error that a limit on the size of files really makes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(Exception) as caught, Checkpoints(tmp_path) as checkpoints:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
            checkpoints.save(1, {"x": np.random.default_rng(0).random(100_000)})
            checkpoints.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert command.explain(caught.value).startswith("a file may not become as large")


def test_a_worker_that_was_killed_is_explained():
    for code, word in ((-7, "/dev/shm"), (-9, "memory")):
        error = RuntimeError(f"Worker process was terminated unexpectedly with exit code {code}. Search the logs")
        assert word in command.explain(error)
    assert command.explain(RuntimeError("exit code 1")) is None


def test_ctrl_c_has_its_own_exit_code(run_raising):
    with pytest.raises(SystemExit, match="130"):
        run_raising(KeyboardInterrupt())


def test_a_bug_is_no_mistake_of_the_user_s(run_raising):
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        run_raising(jax.errors.JaxRuntimeError("INTERNAL: a bug"))


def test_help_shows_presets_and_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        main.parser().parse(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(part in text for part in (":cifar10", ":imagenet", "folder:/photos", "tfds:", "--workdir", "Ctrl-C"))
    for line in text.splitlines():  # the examples are true
        for word in line.split():
            if word.startswith("--config.") and "=" in word:
                load("configs/byol.py", [word.removeprefix("--config.").split("=")])


def test_overrides_keep_their_order_and_their_equals_signs():
    line = ["--config.a.b=x=y", "--config=c.py", "--config.a.b=", "--workdir", "w"]
    options = main.parser().parse(line)
    assert options.overrides == [("a.b", "x=y"), ("a.b", "")]
    assert (options.config, options.workdir) == ("c.py", "w")


def test_a_workdir_is_named_after_the_config():
    def name(*line):
        options = main.parser().parse(list(line))
        return main.default_workdir(options, load(options.config, options.overrides))

    file = "--config=configs/byol.py"
    assert name(file) == "runs/byol"
    assert name(f"{file}:cifar10") == "runs/byol-cifar10"
    changed = name(file, "--config.seed=1")
    assert changed.startswith("runs/byol-")
    assert changed == name(file, "--config.seed=1") != name(file, "--config.seed=2")
    assert name(f"{file}:cifar10", "--config.seed=1").startswith("runs/byol-cifar10-")


@pytest.mark.parametrize("name", [*KINDS, "cast"])
def test_preview_draws_a_row_an_image_and_a_column_a_view(name, tmp_path, capsys):
    out = tmp_path / "views"  # a PNG whatever its name
    plain = [(f"augment.{key}", "0") for key in ("jitter", "gray", "blur")]  # quick to compile
    changes = [f"--config.{key}={value}" for key, value in [*overrides(name), *plain, ("data.canvas", "16")]]
    preview.main(preview.parser().parse([f"--config={ROOT / 'configs' / f'{name}.py'}", f"--out={out}", *changes]))
    assert str(out) in capsys.readouterr().out
    with Image.open(out) as sheet:
        assert sheet.format == "PNG"
        columns = {"swav": 5, "instdisc": 2}.get(name, 3)
        side = 5 * 16  # pixels, enlarged
        assert sheet.height == LINE + preview.ROWS * (side + GAP) + GAP
        assert sheet.width // (side + GAP) >= columns


@pytest.mark.parametrize(("place", "sentence"), [("nowhere/a.png", "name another file"), (".", "name a file in it")])
def test_preview_says_where_it_cannot_write(place, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        preview.main(preview.parser().parse(["--config=configs/byol.py", f"--out={tmp_path / place}"]))
