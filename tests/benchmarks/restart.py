"""A run goes on with other numbers of processes after each kill: `python tests/benchmarks/restart.py [NAME ...]`.

For tiny forms of methods: a run of one process that is never stopped, and a run on 2 processes, killed with SIGKILL in
the middle of an epoch, that goes on as 1 process, is killed again, and ends on 4 processes. Prints the largest relative
difference of a loss in each part, and that of the last parameters: the norm of all differences over that of all.
"""

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

sys.path.extend(str(folder) for folder in pathlib.Path(__file__).resolve().parents[1:3])
os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}

import numpy as np
from killing import last_row, measured
from PIL import Image
from test_methods import BARE, BATCH, ROOT, overrides

from ssl_jax import checkpoint, data

EPOCH, LAST = 8, 24  # steps
DEVICES = 4  # of all processes together
PARTS = ((2, 11), (1, 19), (4, LAST))  # the number of processes, and the step after which they are killed


def write_images(folder: pathlib.Path) -> None:
    """Writes as many of the embedded images as an epoch has."""
    for split in ("train", "test"):
        source = data.open_source("embedded:fashion_mnist", split)
        for i in range(EPOCH * BATCH):
            path = folder / split / str(source.labels[i]) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(source[i]["image"]).save(path)


def start(name: str, workdir: pathlib.Path, processes: int) -> subprocess.Popen:
    """Starts a run on some processes, with its output beside its workdir."""
    # Rounding errors grow with the steps, and with the learning rate.
    more = {"steps": LAST, "checkpoint.every": 3, "evaluate.every": LAST, "optimizer.learning_rate": 0.05}
    more |= {"data.source": f"folder:{workdir.parent / 'images'}", "evaluate.labels": "ignored"}
    changes = overrides(name, **BARE, **more)
    launch = [ROOT / "launch" / "local_processes.py", f"--processes={processes}", f"--devices={DEVICES // processes}"]
    train = ["-m", "ssl_jax.main", f"--config={name}", f"--workdir={workdir}"]
    train += [f"--config.{key}={value}" for key, value in changes]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(workdir.parent / "cache")}
    with workdir.with_suffix(".txt").open("a") as output:
        line = [sys.executable, *launch, "--", sys.executable, *train]
        return subprocess.Popen(line, cwd=ROOT, env=environment, stdout=output, stderr=output)


def kill_after(process: subprocess.Popen, workdir: pathlib.Path, step: int) -> None:
    """Kills all processes of a run at once, when it has logged a step."""
    while last_row(workdir) < step:
        assert process.poll() is None, workdir.with_suffix(".txt").read_text()
        time.sleep(0.001)
    for child in pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    assert process.wait() == 128 + signal.SIGKILL


def finish(process: subprocess.Popen, workdir: pathlib.Path) -> None:
    assert process.wait() == 0, workdir.with_suffix(".txt").read_text()


def losses(workdir: pathlib.Path) -> np.ndarray:
    return np.array([row["loss"] for row in measured(workdir) if "loss" in row])


def last_params(workdir: pathlib.Path) -> np.ndarray:
    folder = workdir / "checkpoints"
    names = [name for name in checkpoint.array_names(folder, LAST) if name.startswith("params/")]
    return np.concatenate([array.ravel() for _, array in sorted(checkpoint.read_arrays(folder, LAST, names).items())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["byol", "moco_v2"], metavar="NAME")
    with tempfile.TemporaryDirectory() as text:
        folder = pathlib.Path(text)
        write_images(folder / "images")
        for name in parser.parse_args().names:
            whole, killed = folder / name, folder / f"{name}-killed"
            finish(start(name, whole, 1), whole)
            for processes, step in PARTS[:-1]:
                kill_after(start(name, killed, processes), killed, step)
                print(f"{name}: {processes} processes killed, saved at {checkpoint.steps(killed / 'checkpoints')}")
            finish(start(name, killed, PARTS[-1][0]), killed)
            assert len(losses(whole)) == len(losses(killed)) == LAST
            parts = np.split(np.abs(losses(killed) / losses(whole) - 1), [step for _, step in PARTS[:-1]])
            params = last_params(whole)
            apart = np.linalg.norm(last_params(killed) - params) / np.linalg.norm(params)
            print(
                f"{name}: losses {' '.join(f'{part.max():.0e}' for part in parts)}, parameters {apart:.0e}", flush=True
            )


if __name__ == "__main__":
    main()
