"""Runs several processes of a command on this machine, each with virtual CPU devices of its own.

    python launch/local_processes.py --processes=2 --devices=4 -- python -m ssl_jax.main --config=byol

Each line of their output begins with the number of its process. When one fails, the others are ended; when one stops as
it was asked to (codes 75 and 130), they have ten seconds to stop by themselves. Signals are passed on to all. The exit
code is the first that is not 0, 128 and the number of the signal that killed a process, or 127 without such a command.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

PATIENCE = 10.0  # seconds from the first failure, or end, until those that do not stop are killed
STOPPED = (75, 130)  # exit codes of a run that was asked to stop: all its processes do, at the same step
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def environment(index: int, count: int, devices: int, address: str) -> dict[str, str]:
    """Returns the environment of a process."""
    flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", ""))
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}",
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_NUM_PROCESSES": str(count),
        "JAX_PROCESS_ID": str(index),
        "PYTHONUNBUFFERED": "1",
    }


def free_address() -> str:
    """Returns an address of this machine with a port that is free."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return "{}:{}".format(*found.getsockname())


def forward(index: int, process: subprocess.Popen) -> None:
    """Prints the output of a process, with its number before each line."""
    for line in process.stdout:
        sys.stdout.write(f"[{index}] {line.rstrip()}\n")
        sys.stdout.flush()


def wait(processes: list[subprocess.Popen]) -> int:
    """Waits until all have ended, ends the others after a failure, and returns the first code that is not 0."""
    first, deadline = 0, None
    while running := [process for process in processes if process.poll() is None]:
        ended = [index for index, process in enumerate(processes) if process.poll()]
        if ended and not first:
            code = processes[ended[0]].returncode
            first, deadline = shell_code(code), time.monotonic() + PATIENCE
            if first not in STOPPED:
                how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
                print(f"process {ended[0]} {how}; the others are ended", file=sys.stderr, flush=True)
                for process in running:
                    process.terminate()
        if deadline and time.monotonic() > deadline:
            deadline = None
            indices = ", ".join(str(index) for index, process in enumerate(processes) if process in running)
            print(f"not ended after {PATIENCE:.0f} seconds, and killed: {indices}", file=sys.stderr, flush=True)
            for process in running:
                process.kill()
        time.sleep(0.05)
    return first or next((shell_code(process.returncode) for process in processes if process.returncode), 0)


def shell_code(code: int) -> int:
    """Returns the exit code of a process as shells give it: 128 and the number of the signal that killed it."""
    return code if code > 0 else 128 - code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2, help="how many")
    parser.add_argument("--devices", type=int, default=1, help="virtual CPU devices of each")
    parser.add_argument("command", nargs="+", help="the command, after --")
    options = parser.parse_args()
    if min(options.processes, options.devices) < 1:
        parser.error("--processes and --devices are at least 1")
    if not shutil.which(options.command[0]):
        print(f"error: there is no command {options.command[0]}", file=sys.stderr)
        return 127
    address, processes = free_address(), []
    for number in PASSED_ON:
        signal.signal(number, lambda number, frame: [one.send_signal(number) for one in processes])
    for index in range(options.processes):
        process = subprocess.Popen(
            options.command,
            env=environment(index, options.processes, options.devices, address),
            text=True,
            errors="backslashreplace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # else Ctrl-C would reach it twice, which ends a run without saving
        )
        processes.append(process)
    readers = [threading.Thread(target=forward, args=pair) for pair in enumerate(processes)]
    for reader in readers:
        reader.start()
    code = wait(processes)
    for reader in readers:
        reader.join()
    return code


if __name__ == "__main__":
    sys.exit(main())
