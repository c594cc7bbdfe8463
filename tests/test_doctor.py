"""The doctor: a healthy machine passes, and each fault is found and says what to do."""

import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from test_methods import ROOT, overrides, read

from ssl_jax import doctor
from ssl_jax.build import build
from ssl_jax.checkpoint import Checkpoints
from ssl_jax.doctor import Finding, Speed, Trial, check, check_room, compare, unmet, unused_accelerator

TINY = dict(overrides("simclr")) | {"batch_size": "64", "data.device_bytes": "0", "data.size": "8"}
PARTS = ["devices", "versions", "step", "data", "checkpoint", "disk", "/dev/shm"]


def test_a_machine_without_a_fault(tmp_path):
    line = [f"--config.{key}={value}" for key, value in TINY.items()]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "jax")}
    command = [sys.executable, "-m", "ssl_jax", "doctor", "--config=simclr", f"--workdir={tmp_path / 'run'}", *line]
    process = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True)
    found = process.stdout.splitlines()
    assert [line[5:].partition(":")[0] for line in found] == PARTS, process
    assert all(line.startswith("ok ") for line in found if "data" not in line), process
    assert process.returncode == any(line.startswith("fix ") for line in found)  # how fast it reads is the machine's
    assert not list(tmp_path.iterdir())


def versions(**installed):
    return {"jax": "0.10.2", "jaxlib": "0.10.2"} | {name.replace("_", "-"): value for name, value in installed.items()}


@pytest.mark.parametrize(
    ("used", "present", "platforms", "installed", "advice"),
    [
        ("cpu", None, "", {}, ""),
        ("gpu", "gpu", "", {}, ""),
        ("cpu", "gpu", "", {}, "JAX does not use the GPU of this machine: pip install --upgrade 'jax[cuda12]'"),
        ("cpu", "gpu", "cpu", {}, "unset JAX_PLATFORMS, which is cpu"),
        (
            "cpu",
            "gpu",
            "",
            {"jax_cuda13_plugin": "0.9.0"},
            "jax-cuda13-plugin 0.9.0 is not for jaxlib 0.10.2: pip install",
        ),
        ("cpu", "gpu", "", {"jax_cuda12_plugin": "0.10.2"}, "see whether nvidia-smi works"),
        ("cpu", "tpu", "", {}, "JAX does not use the TPU of this machine: pip install --upgrade 'jax[tpu]'"),
        ("cpu", "tpu", "", {"libtpu": "0.0.52"}, "another process may hold it"),
    ],
)
def test_an_accelerator_that_jax_does_not_use(used, present, platforms, installed, advice):
    found = unused_accelerator(used, present, platforms, versions(**installed).get)
    assert advice in found and bool(advice) == bool(found)


def test_a_jax_that_does_not_tell_of_tpus(monkeypatch):
    assert doctor.tpu_chips() == 0  # of this machine
    monkeypatch.setitem(sys.modules, "jax._src.hardware_utils", None)
    assert doctor.tpu_chips() == 0


def test_devices_without_an_accelerator_in_use(monkeypatch):
    monkeypatch.setattr(doctor, "accelerator", lambda: "gpu")
    found = doctor.check_devices()
    assert found.seen.startswith("8 x cpu") and "JAX_PLATFORMS" in found.advice


def test_requirements_that_are_not_met():
    needed = ["jax>=0.11", "jaxlib>=0.10", "flax", "chex; extra == 'test'", "pywin32; sys_platform == 'win32'"]
    assert unmet(needed, versions().get) == ["jax>=0.11", "flax"]


def test_who_waits_for_whom():
    assert not compare(Speed(100.0, 400.0), 0, 8).advice
    slow = compare(Speed(400.0, 100.0), 0, 8)
    assert "steps wait for data 75% of the time" in slow.seen and "set data.workers=8 (now 0)" in slow.advice
    assert "more cores" in compare(Speed(400.0, 100.0), 8, 8).advice


def test_a_disk_without_room(tmp_path):
    assert not check_room(tmp_path, 4, 10, 40).advice
    assert "make room" in check_room(tmp_path, 4, 10, 39).advice


@pytest.fixture(scope="module")
def run():
    return build(read("simclr.py", list((TINY | {"data.workers": "2"}).items()), None))


@pytest.fixture
def trial(run, tmp_path):
    """A trial that neither reads nor compiles."""
    made = Trial(run, tmp_path)
    zeros = jax.tree.map(lambda x: jax.device_put(jnp.zeros(x.shape, x.dtype), x.sharding), made.trainer.abstract)
    made.trainer.batches, made.trainer.init = lambda start: (batch for batch in [{}]), lambda: zeros
    return made


def only_advice(finding):
    assert str(finding).startswith("fix ")
    return finding.advice


def test_a_step_that_does_not_fit_or_diverges(trial):
    def too_large(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    trial.trainer.programs = [too_large]
    assert "out of memory: lower batch_size" in only_advice(check("step", trial.check_step))
    trial.trainer.programs = [lambda state, *_: (state, {"loss": jnp.nan})]
    assert "lower optimizer.learning_rate" in only_advice(check("step", trial.check_step))


def test_a_checkpoint_that_cannot_be_written_or_changes(trial, tmp_path, monkeypatch):
    (tmp_path / doctor.SCRATCH).write_text("in the way")
    assert "cannot be written" in only_advice(check("checkpoint", trial.check_checkpoint))
    (tmp_path / doctor.SCRATCH).unlink()

    def flipped(self, abstract):
        step, state = restore(self, abstract)
        return step, state._replace(step=state.step + 1)

    restore = Checkpoints.restore
    monkeypatch.setattr(Checkpoints, "restore", flipped)
    assert "changes what is saved" in only_advice(check("checkpoint", trial.check_checkpoint))
    assert not list(tmp_path.iterdir())


def test_shared_memory_that_is_too_small(trial, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: shutil._ntuple_diskusage(2**10, 0, 2**10))
    assert "set data.workers lower" in only_advice(check("/dev/shm", trial.check_shared_memory))


def test_a_fault_is_the_exit_code(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "use_cache", lambda: None)
    monkeypatch.setattr(doctor.Trial, "findings", lambda self: iter([Finding("disk", "full", "make room")]))
    with pytest.raises(SystemExit, match="1"):
        doctor.main(doctor.parser().parse([]))
    assert capsys.readouterr().out.endswith("fix  disk: full; make room\n")
