"""A run on several processes gives the numbers of a single one, and all of them stop at the same step."""

import os
import signal
import subprocess
import sys

import chex
import numpy as np
import pytest
from test_methods import ROOT
from test_train import command, finish, load_state, measured, wait_for_row

from launch import local_processes
from ssl_jax import checkpoint

NAME = "moco_v2"  # its queue is split over the processes
STEPS = 24


def start(monkeypatch, launch, processes=2):
    """Starts processes that find each other, with `launch()` each."""
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", local_processes.free_address())
    monkeypatch.setenv("JAX_NUM_PROCESSES", str(processes))
    started = []
    for index in range(processes):
        monkeypatch.setenv("JAX_PROCESS_ID", str(index))
        started.append(launch())
    for name in [name for name in os.environ if name.startswith("JAX_") and name != "JAX_PLATFORMS"]:
        monkeypatch.delenv(name)
    return started


def start_run(workdir, monkeypatch):
    """Starts the two processes of one run, each with two of four devices."""
    return start(monkeypatch, lambda: command(NAME, workdir, devices=2, steps=STEPS))


def python(program, devices):
    """Starts a program as a process of its own."""
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    line = [sys.executable, "-c", program]
    return subprocess.Popen(
        line, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


INTERLEAVED = """
import sys, jax, numpy as np
from ssl_jax import parallel
parallel.start()
devices = jax.devices()
mesh = parallel.make_mesh([devices[i] for i in (0, 2, 1, 3)])
rows = parallel.local_rows(mesh, 8)
batch = parallel.scatter(mesh, {"index": np.arange(8)[rows]})
whole = parallel.gather(batch["index"])
print(*rows, "of", *whole, file=sys.stderr)
"""


def test_each_process_has_the_rows_of_its_devices_wherever_they_are(monkeypatch):
    """The devices of two processes take turns on the mesh, so neither has a contiguous part of the batch."""
    started = start(monkeypatch, lambda: python(INTERLEAVED, devices=2))
    for process, line in zip(started, ["0 1 4 5 of 0 1 2 3 4 5 6 7", "2 3 6 7 of 0 1 2 3 4 5 6 7"], strict=True):
        assert line in finish(process).splitlines()


@pytest.mark.slow
def test_two_processes_train_as_one_and_stop_together(tmp_path, monkeypatch):
    single, whole, stopped = (tmp_path / name for name in ("single", "whole", "stopped"))
    finish(command(NAME, single, devices=4, steps=STEPS))
    first, second = map(finish, start_run(whole, monkeypatch))
    assert "trained" in first
    assert "trained" not in second  # one process alone prints and writes
    for expected, row in zip(measured(single), measured(whole), strict=True):
        assert expected.keys() == row.keys()
        if row["step"] <= 8:  # later rounding errors have grown
            np.testing.assert_allclose([*row.values()], [*expected.values()], rtol=2e-2, atol=2)

    processes = start_run(stopped, monkeypatch)
    wait_for_row(stopped, 7, processes[0])
    processes[1].send_signal(signal.SIGTERM)  # to one of them only
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [75, 75], outputs
    assert "by a request to another process, everything is saved; the same command resumes" in outputs[0]
    assert checkpoint.steps(stopped / "checkpoints")[-1] < STEPS
    for process in start_run(stopped, monkeypatch):
        finish(process)
    assert measured(stopped) == measured(whole)
    states = (load_state(NAME, workdir, 4, STEPS) for workdir in (whole, stopped))
    chex.assert_trees_all_equal(*states)
