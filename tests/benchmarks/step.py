"""Images/s of whole training steps, ours and in plain PyTorch: `python tests/benchmarks/step.py`.

Each side has a process of its own; they alternate step by step, so that both see the same machine. It also prints the
fraction of a step that is spent outside the network, and with `--startup` the seconds from the command to the first
step.
"""

import argparse
import importlib
import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

CASES = [(method, encoder) for encoder in ("resnet18", "vit_tiny") for method in ("simclr", "byol")]
CASES += [("dino", "vit_tiny"), ("mae", "vit_tiny")]  # two crops of 32 pixels and six of 16; a decoder of four blocks


class Worker:
    """A process that times the steps of one side on demand."""

    def __init__(self, module: str, *arguments):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, module, arguments))
        self.process.start()
        other.close()  # so that the end of the process ends the wait for it
        self.names = self.connection.recv()

    def seconds(self, name: str) -> float:
        self.connection.send(name)
        return self.connection.recv()

    def stop(self) -> None:
        self.connection.send(None)
        self.process.join()


def serve(connection, module: str, arguments: tuple) -> None:
    steps = importlib.import_module(module).steps(*arguments)
    for step in steps.values():  # compiles, warms up
        step()
    connection.send(list(steps))
    while name := connection.recv():
        start = time.perf_counter()
        steps[name]()
        connection.send(time.perf_counter() - start)
    os._exit(0)  # wait for the thread pools of a library


def race(method: str, encoder: str, flags) -> dict[str, dict[str, float]]:
    """Median seconds of each step of each side."""
    images = np.random.default_rng(0).integers(0, 256, (flags.batch_size, 32, 32, 3), dtype=np.uint8)
    sides = {
        "ours": Worker("jax_step", method, encoder, images),
        "torch": Worker("torch_step", method, encoder, images, flags.channels_last),
    }
    times: dict[str, dict[str, list]] = {side: {name: [] for name in worker.names} for side, worker in sides.items()}
    for _ in range(flags.rounds):
        for name in ("whole", "without", "augmentation", "rest"):
            for side, worker in sides.items():
                if name in worker.names:
                    times[side][name].append(worker.seconds(name))
    for worker in sides.values():
        worker.stop()
    return {side: {name: statistics.median(t) for name, t in parts.items()} for side, parts in times.items()}


def report(method: str, encoder: str, batch_size: int, seconds: dict[str, dict[str, float]]) -> None:
    ours, theirs = seconds["ours"], seconds["torch"]
    cells = [f"{batch_size / side[name]:7.1f}" for name in ("whole", "without") for side in (ours, theirs)]
    ratios = [theirs[name] / ours[name] for name in ("whole", "without")]
    shares = [f"{ours[name] / ours['whole']:8.1%}" if name in ours else f"{'':8}" for name in ("augmentation", "rest")]
    print(
        f"{method:7} {encoder:9} {cells[0]} {cells[1]} {ratios[0]:6.2f}  {cells[2]} {cells[3]} {ratios[1]:6.2f}"
        f"  {shares[0]} {shares[1]}".rstrip(),
        flush=True,
    )


def startup(cache: str) -> float:
    """Seconds from the command to the end of the first step."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = pathlib.Path(folder, "run")
        command = [sys.executable, "-m", "ssl_jax.main", "--config=configs/byol.py", f"--workdir={workdir}"]
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--config.log.every=1"],
            env=os.environ | {"JAX_COMPILATION_CACHE_DIR": cache},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not stepped(workdir / "metrics.jsonl"):
                if process.poll() is not None:
                    raise SystemExit("the command ended before its first step")
                time.sleep(0.05)
            return time.perf_counter() - start
        finally:
            process.kill()
            process.wait()


def stepped(file: pathlib.Path) -> bool:
    return file.exists() and any(
        json.loads(line)["step"] > 0 for line in file.read_text().splitlines(True) if "\n" in line
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="steps of which the median counts")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--channels_last", action="store_true", help="PyTorch's other memory format")
    parser.add_argument("--only", default="", help="cases whose name, as in 'simclr resnet18', contains this")
    parser.add_argument("--startup", action="store_true", help="measure the start of the command, nothing else")
    flags = parser.parse_args()
    if flags.startup:
        with tempfile.TemporaryDirectory() as cache:
            print(f"seconds to the first step: {startup(cache):.1f} cold, {startup(cache):.1f} with the cache warm")
        return
    print("images/s, whole step: ours, PyTorch, ratio; without augmentation: the same; share of our step that is")
    print("augmentation; loss, optimiser, moving average and probe")
    for method, encoder in CASES:
        if flags.only in f"{method} {encoder}":
            report(method, encoder, flags.batch_size, race(method, encoder, flags))


if __name__ == "__main__":
    main()
