"""Several processes on this machine: numbered lines, a failure ends all, a stop none, signals reach each once."""

import pathlib
import signal
import subprocess
import sys
import time

import pytest

LAUNCHER = pathlib.Path(__file__).parent.parent / "launch" / "local_processes.py"
BEGIN = "import os, sys, time, signal\nindex = os.environ['JAX_PROCESS_ID']\n"
STOPS = """
signal.signal(signal.SIGINT, lambda *_: (print("asked", flush=True), sys.exit(3)))
print("ready", flush=True)
time.sleep(60)
"""


def start(program, processes=2):
    line = [sys.executable, LAUNCHER, f"--processes={processes}", "--devices=3", "--", sys.executable, "-c", program]
    return subprocess.Popen(line, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_each_process_has_its_number_and_its_devices():
    names = "'JAX_PROCESS_ID', 'JAX_NUM_PROCESSES', 'XLA_FLAGS'"
    process = start(f"import os; print(*(os.environ[name] for name in ({names})))")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    for line, index in zip(sorted(output.splitlines()), "01", strict=True):
        assert line.startswith(f"[{index}] {index} 2 ")
        assert line.endswith("--xla_force_host_platform_device_count=3")
        assert line.count("device_count") == 1


@pytest.mark.parametrize(
    ("death", "code", "how"), [("sys.exit(7)", 7, "code 7"), ("os.kill(os.getpid(), 9)", 137, "SIGKILL")]
)
def test_a_process_that_fails_ends_the_others(death, code, how):
    began = time.monotonic()
    process = start(f"{BEGIN}{death} if index == '1' else time.sleep(60)")
    _, error = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"process 1 {'was killed by' if code > 128 else 'ended with'} {how}; the others are ended" in error
    assert time.monotonic() - began < 30


def test_processes_of_a_run_that_stops_end_by_themselves():
    process = start(f"{BEGIN}time.sleep(1.5 * int(index))\nprint('saved')\nsys.exit(75)")
    output, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (75, "")
    assert sorted(output.splitlines()) == ["[0] saved", "[1] saved"]


def test_a_command_that_is_not_there_is_one_line():
    process = subprocess.run([sys.executable, LAUNCHER, "--", "nosuchcmd"], text=True, capture_output=True)
    assert (process.returncode, process.stderr) == (127, "error: there is no command nosuchcmd\n")


def test_a_signal_is_passed_on_once():
    process = start(BEGIN + STOPS)
    assert process.stdout is not None
    ready = [process.stdout.readline() for _ in range(2)]
    assert all(line.endswith("ready\n") for line in ready)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert sorted(output.splitlines()) == ["[0] asked", "[1] asked"]
