"""A run on several processes gives the numbers of a single one, and all of them stop at the same step."""

import os
import shutil
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
STEPS, SAME = 24, 8
CHANGES = {key.replace(".", "__"): value for key, value in BARE.items()}
CHANGES |= {"steps": STEPS, "evaluate__every": 8, "checkpoint__every": 8}
OUTPUT = {"cwd": ROOT, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}


def places():
    """Returns the environments of two processes with two devices each, which find each other."""
    address = local_processes.free_address()
    return [local_processes.environment(index, 2, 2, address) for index in range(2)]


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
    started = [subprocess.Popen([sys.executable, "-c", INTERLEAVED], env=place, **OUTPUT) for place in places()]
    for process, line in zip(started, ["0 1 4 5 of 0 1 2 3 4 5 6 7", "2 3 6 7 of 0 1 2 3 4 5 6 7"], strict=True):
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0 and line in output.splitlines(), output


def start_two(workdir):
    """Starts the two processes of one run, each with two of four devices."""
    return [start(NAME, workdir, process=f"{i}.", environment=place, **CHANGES) for i, place in enumerate(places())]


def check_same_beginning(expected, found):
    for theirs, ours in zip(killing.measured(expected), killing.measured(found), strict=True):
        assert theirs.keys() == ours.keys() and theirs["step"] == ours["step"]
        if ours["step"] <= SAME:  # later rounding errors have grown
            np.testing.assert_allclose([*ours.values()], [*theirs.values()], rtol=2e-2, atol=2)


@pytest.mark.slow
def test_two_processes_train_as_one_stop_together_and_go_on_as_two_or_one(tmp_path):
    alone, whole, stopped, fewer = (tmp_path / name for name in ("alone", "whole", "stopped", "fewer"))
    killing.finish(*start(NAME, alone, devices=4, **CHANGES))
    for process, output in start_two(whole):
        killing.finish(process, output)
        # One process alone prints and writes.
        assert ("trained" in output.read_text()) == output.name.endswith(".0.txt")
    check_same_beginning(alone, whole)

    (first, said), (second, nothing) = start_two(stopped)
    killing.wait_for_row(first, stopped, SAME, said)
    os.kill(second.pid, signal.SIGTERM)  # to one of them only
    for process, output in ((first, said), (second, nothing)):
        process.join(120)
        assert process.exitcode == 75, output.read_text()
    assert "by a request to another process, everything is saved; the same command resumes" in said.read_text()
    middle = killing.saved(stopped)
    assert SAME <= middle < STEPS
    shutil.copytree(stopped, fewer)

    for process, output in start_two(stopped):
        killing.finish(process, output)
    killing.assert_same(whole, stopped)

    process, output = start(NAME, fewer, devices=4, **CHANGES)
    killing.finish(process, output)
    assert f"resumes at step {middle}" in output.read_text()
    assert killing.saved(fewer) == STEPS
    check_same_beginning(alone, fewer)
