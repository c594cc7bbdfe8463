"""A run on several processes gives the numbers of a single one, and all of them stop at the same step."""

import os
import signal
import subprocess
import sys

import killing
import numpy as np
import pytest
from test_methods import BARE, ROOT
from test_train import start

from launch import local_processes

NAME = "moco_v2"  # its queue is split over the processes
STEPS = 24
CHANGES = {key.replace(".", "__"): value for key, value in BARE.items()} | {"steps": STEPS}
OUTPUT = {"cwd": ROOT, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}


def places(processes=2):
    """Returns the variables by which processes find each other, for each of them."""
    shared = {"JAX_COORDINATOR_ADDRESS": local_processes.free_address(), "JAX_NUM_PROCESSES": str(processes)}
    return [shared | {"JAX_PROCESS_ID": str(index)} for index in range(processes)]


def start_run(workdir):
    """Starts the two processes of one run, each with two of four devices."""
    return [start(NAME, workdir, process=f"{i}.", environment=place, **CHANGES) for i, place in enumerate(places())]


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


def test_each_process_has_the_rows_of_its_devices_wherever_they_are():
    """The devices of two processes take turns on the mesh, so neither has a contiguous part of the batch."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    started = [
        subprocess.Popen([sys.executable, "-c", INTERLEAVED], env=os.environ | flags | place, **OUTPUT)
        for place in places()
    ]
    for process, line in zip(started, ["0 1 4 5 of 0 1 2 3 4 5 6 7", "2 3 6 7 of 0 1 2 3 4 5 6 7"], strict=True):
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0 and line in output.splitlines(), output


@pytest.mark.slow
def test_two_processes_train_as_one_and_stop_together(tmp_path):
    single, whole, stopped = (tmp_path / name for name in ("single", "whole", "stopped"))
    killing.finish(*start(NAME, single, devices=4, **CHANGES))
    for process, output in start_run(whole):
        killing.finish(process, output)
        # One process alone prints and writes.
        assert ("trained" in output.read_text()) == output.name.endswith(".0.txt")
    for expected, row in zip(killing.measured(single), killing.measured(whole), strict=True):
        assert expected.keys() == row.keys()
        if row["step"] <= 8:  # later rounding errors have grown
            np.testing.assert_allclose([*row.values()], [*expected.values()], rtol=2e-2, atol=2)

    processes = start_run(stopped)
    killing.wait_for_row(processes[0][0], stopped, 7, processes[0][1])
    os.kill(processes[1][0].pid, signal.SIGTERM)  # to one of them only
    for process, output in processes:
        process.join(120)
        assert process.exitcode == 75, output.read_text()
    said = processes[0][1].read_text()
    assert "by a request to another process, everything is saved; the same command resumes" in said
    assert killing.saved(stopped) < STEPS
    for process, output in start_run(stopped):
        killing.finish(process, output)
    killing.assert_same(whole, stopped)
