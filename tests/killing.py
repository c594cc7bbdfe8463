"""Kills runs at random moments, and checks after each kill that nothing is lost but the work since the last save.

Runs are forked from a process that has imported the library and used no device, which saves that time at each start.
"""

import multiprocessing
import os
import re
import sys
import time

import chex

from ssl_jax import checkpoint
from ssl_jax.monitor.writers import read

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["ssl_jax.main", "ssl_jax.train", "ssl_jax.build"])
KEPT = 2  # the default of checkpoint.keep
MOMENTS = ("starting", "stepping", "writing")


def run(arguments, environment, output):
    """Runs the training command in this process, with its output in a file."""
    os.environ |= environment
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(file, number)
    from ssl_jax import command, main

    sys.argv = ["main", *arguments]
    command.run(main.main, main.parser())


def start(arguments, environment, output):
    """Starts the training command as a process of its own."""
    output.write_text("")
    process = FORK.Process(target=run, args=(arguments, environment, output))
    process.start()
    return process


def finish(process, output):
    """Waits until a run has ended, as it should."""
    process.join(600)
    assert process.exitcode == 0, output.read_text()


def saved(workdir):
    """The step of the last completed save, 0 before the first."""
    return max(checkpoint.steps(workdir / "checkpoints"), default=0)


def last_row(workdir):
    return max((row["step"] for row in read(workdir / "metrics.jsonl")), default=0)


def wait_for_row(process, workdir, step, output):
    """Waits until a run that was just started has logged a step."""
    deadline = time.monotonic() + 300
    while "first step" not in output.read_text() or last_row(workdir) < step:  # not a row that a kill left
        assert process.exitcode is None and time.monotonic() < deadline, output.read_text()
        time.sleep(0.001)


def is_writing(workdir):
    return any((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp"))


def kill(process, workdir, moment, random, output, within=12):
    """Kills a run at a moment, and checks what it leaves.

    Args:
        process: the run, just started.
        workdir: its workdir.
        moment: one of `MOMENTS`.
        random: the generator that chooses when exactly.
        output: the file with its output.
        within: the largest number of steps that it takes before.

    Returns:
        Whether a checkpoint was being written.
    """
    begun = saved(workdir)
    target = begun + int(random.integers(1, within + 1))
    if moment == "starting":
        time.sleep(random.uniform(0, 2))
    else:
        wait_for_row(process, workdir, target, output)
        while moment == "writing" and not is_writing(workdir):
            assert process.exitcode is None, output.read_text()
        time.sleep(random.uniform(0, 0.02))
    complete = saved(workdir)
    process.kill()
    process.join()
    writing = is_writing(workdir)
    said = output.read_text()
    for resumed in re.findall(r"resumes at step ([\d,]+)", said):
        assert int(resumed.replace(",", "")) == begun  # all that the kill before had left complete
    assert "damaged" not in said
    assert saved(workdir) >= complete
    for step in checkpoint.steps(workdir / "checkpoints")[-KEPT:]:  # an older one may be deleted in part
        assert checkpoint.find_fault(workdir / "checkpoints" / str(step)) is None
    return writing


def measured(workdir):
    """The metrics of a run but for its speed."""
    return [
        {key: value for key, value in row.items() if key != "images_per_second"}
        for row in read(workdir / "metrics.jsonl")
    ]


def assert_same(whole, killed):
    """Checks that two runs have the same last state and metrics to the bit."""
    states = []
    for workdir in (whole, killed):
        folder, step = workdir / "checkpoints", saved(workdir)
        states.append(checkpoint.read_arrays(folder, step, checkpoint.array_names(folder, step)))
    chex.assert_trees_all_equal(*states)
    assert states[0] and measured(whole) == measured(killed)
