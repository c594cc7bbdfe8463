"""What is compared between one process and several: python tests/benchmarks/several.py OUT WORKDIR IMAGES NAME...

Takes a few steps of methods, saves and restores in between, and evaluates and embeds with the run in WORKDIR. Writes
OUT/found.json, and what `evaluate` and `embed` write.
"""

import hashlib
import json
import pathlib
import sys

sys.path.extend(str(folder) for folder in pathlib.Path(__file__).resolve().parents[1:3])

import jax
import numpy as np
from test_methods import BARE, ROOT, Program, overrides

from ssl_jax import checkpoint, embed, parallel
from ssl_jax.build import build
from ssl_jax.config import load
from ssl_jax.evaluate import __main__ as evaluate

STEPS = 4


def program(name):
    """Returns the step of a tiny run on all devices, as the contract tests compile it too."""
    changes = overrides(name, **BARE, **{"data.device_bytes": "0", "data.images_per_class": ""})
    return Program(build(load(str(ROOT / "configs" / f"{name}.py"), changes)), len(jax.devices()))


def advance(program, state, start, stop):
    """Takes the steps from `start` to `stop`; returns the state and the losses."""
    losses, batches = [], program.trainer.batches(start)
    for _ in range(start, stop):
        state, metrics = program.compiled(state, next(batches), None, program.trainer.key)
        losses.append(float(metrics["loss"]))
    return state, losses


def learn(name, out):
    """Returns the losses of a method, its state being written and read in the middle, and a hash of its program."""
    found = program(name)
    state, first = advance(found, found.trainer.init(), 0, STEPS // 2)
    with checkpoint.Checkpoints(out / "checkpoints" / name) as checkpoints:
        checkpoints.save(STEPS // 2, state)
    text = found.lower().as_text()
    return {"losses": first + go_on(found, name, out), "program": hashlib.sha256(text.encode()).hexdigest()}


def go_on(program, name, out):
    """Returns the losses of the second half of a run, from the checkpoint of the first."""
    state = checkpoint.read(out / "checkpoints" / name, STEPS // 2, program.trainer.abstract)
    return advance(program, state, STEPS // 2, STEPS)[1]


def interleaved():
    """Returns the rows of this process, and those of all, on a mesh on which the devices of processes take turns."""
    devices = sorted(jax.devices(), key=lambda device: device.id % jax.local_device_count())
    mesh = parallel.make_mesh(devices)
    rows = parallel.local_rows(mesh, mesh.size)
    index = parallel.scatter(mesh, {"index": np.arange(mesh.size, dtype=np.int32)[rows]})["index"]
    return [rows.tolist(), parallel.gather(index).tolist()]


def run(out, workdir, images, names):
    """Does everything; the first process writes what was found."""
    found = {name: learn(name, out) for name in names} | {"rows": interleaved()}
    if jax.process_index() == 0:
        (out / "found.json").write_text(json.dumps(found))
    lines = [f"--workdir={workdir}", "--protocol=knn,retrieval,health", f"--out={out / 'evaluated'}"]
    evaluate.main(evaluate.parser().parse(lines))
    lines = [f"--workdir={workdir}", f"--source=folder:{images}", f"--out={out / 'images.npz'}", "--nearest=2"]
    embed.main(embed.parser().parse(lines))


if __name__ == "__main__":
    parallel.start()
    run(*map(pathlib.Path, sys.argv[1:4]), sys.argv[4:])
