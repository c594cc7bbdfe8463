"""One run of several processes: the numbers of a single one, and a stop that all of them agree on."""

import os
import signal
import socket

import chex
import numpy as np
import pytest
from test_train import command, finish, load_state, measured, wait_for_row

from ssl_jax import checkpoint

NAME = "moco_v2"  # its queue is split over the processes
STEPS = 40


def start(workdir, monkeypatch, processes=2):
    """Starts the processes of one run, each with its share of four devices."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*free.getsockname())
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", address)
    monkeypatch.setenv("JAX_NUM_PROCESSES", str(processes))
    started = []
    for index in range(processes):
        monkeypatch.setenv("JAX_PROCESS_ID", str(index))
        started.append(command(NAME, workdir, devices=4 // processes, steps=STEPS))
    for name in [name for name in os.environ if name.startswith("JAX_") and name != "JAX_PLATFORMS"]:
        monkeypatch.delenv(name)
    return started


@pytest.mark.slow
def test_two_processes_train_as_one_and_stop_together(tmp_path, monkeypatch):
    single, whole, stopped = (tmp_path / name for name in ("single", "whole", "stopped"))
    finish(command(NAME, single, devices=4, steps=STEPS))
    first, second = map(finish, start(whole, monkeypatch))
    assert "trained" in first
    assert "trained" not in second  # one process alone prints and writes
    for expected, row in zip(measured(single), measured(whole), strict=True):
        assert expected.keys() == row.keys()
        if row["step"] <= 8:  # later rounding has grown
            np.testing.assert_allclose([*row.values()], [*expected.values()], rtol=2e-2, atol=2)

    processes = start(stopped, monkeypatch)
    wait_for_row(stopped, 7, processes[0])
    processes[1].send_signal(signal.SIGTERM)  # to one of them only
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [130, 130], outputs
    assert "the same command goes on" in outputs[0]
    assert checkpoint.steps(stopped / "checkpoints")[-1] < STEPS
    for process in start(stopped, monkeypatch):
        finish(process)
    assert measured(stopped) == measured(whole)
    states = (load_state(NAME, workdir, 4, STEPS) for workdir in (whole, stopped))
    chex.assert_trees_all_equal(*states)
