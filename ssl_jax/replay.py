"""Takes the step of a run that was not finite again, and names the operation at fault.

A step is a function of the config, the seed and the state before it, and the same to the bit each time. So the run only
writes down which step it was (nonfinite.json), which costs nothing while all is well; a copy of the state before each
step would double the memory of the state, which steps donate. The state before the step at fault comes from the latest
checkpoint before it, or from step 0, by the steps in between.
"""

import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax

from ssl_jax import checkpoint, command, data, parallel
from ssl_jax.build import build
from ssl_jax.errors import UserError
from ssl_jax.fields import to_dict
from ssl_jax.monitor import NONFINITE
from ssl_jax.nonfinite import find
from ssl_jax.numeric import path_name
from ssl_jax.schema import complete
from ssl_jax.train import new_state
from ssl_jax.trainer import Trainer, make_program
from ssl_jax.words import number_of
from ssl_jax.workdir import read_config

SHOWN = 5  # names of parameters


def main(options) -> None:
    folder = pathlib.Path(options.workdir).expanduser().resolve()
    config, record = read(folder)
    last = record["step"]
    mesh = mesh_like(parallel.MeshSizes(**to_dict(config.get("mesh", {}))), record["devices"])
    run = build(complete(config | {"mesh": {}}), devices=parallel.row_shards(mesh))
    data.identity.check(run.source, folder, "", rows=True, classes=True)
    trainer = Trainer(run, mesh)
    begin, state = state_before(trainer, folder / "checkpoints", last)
    print(f"step {last:,} of {folder} was not finite ({', '.join(record['values'])}); replays from step {begin:,}")
    if mesh.size != record["devices"]:
        had = number_of(record["devices"], "device")
        print(f"warning: the run had {had}, here {mesh.size} replay, so sums round differently")
    batches = trainer.batches(begin)
    for step in range(begin + 1, last + 1):
        batch = next(batches)
        # Parameters show in the losses of the next step, so the step before the last may be at fault.
        before = jax.tree.map(lambda x: x.copy(), state) if step >= last - 1 else None
        state, metrics = trainer.step(state, batch, step - 1)
        values = jax.device_get(metrics | {"parameters": trainer.largest(state.params)})
        if before is not None and not all(map(math.isfinite, values.values())):
            print(explain(trainer, step, before, batch))
            return
    print(f"step {last:,} is finite here: what went wrong depends on the rounding, or on the machine")


def read(folder: pathlib.Path) -> tuple[Any, dict[str, Any]]:
    """Returns the config of a run, and its record of a step that was not finite.

    Raises:
        UserError: if one is missing.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name the workdir of a run, as in --workdir=runs/byol")
    try:
        config = read_config(folder)
        if not (folder / NONFINITE).exists():
            raise UserError(f"there is nothing to replay in {folder}: all steps of the run so far are finite")
        record = json.loads((folder / NONFINITE).read_text())
        return config, {key: record[key] for key in ("step", "devices", "values")}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"there is nothing to replay in {folder}: a run whose loss, gradients or parameters are not finite leaves "
            f"its config.json and {NONFINITE} there ({error})"
        ) from error


def mesh_like(sizes: parallel.MeshSizes, had: int) -> jax.sharding.Mesh:
    """Returns the mesh of a run if its devices are here, else one on which those that are share a copy of the state.

    Args:
        sizes: of the run's mesh.
        had: the number of its devices.
    """
    here = jax.devices()
    if len(here) >= had:
        return parallel.make_mesh(here[:had], sizes)
    # A divisor, since there are settings that divide the run's shares of a batch, and must divide those here.
    count = max(count for count in range(1, len(here) + 1) if sizes.row_shards(had) % count == 0)
    return parallel.make_mesh(here[:count], parallel.MeshSizes(fsdp=count))


def state_before(trainer: Trainer, checkpoints: pathlib.Path, step: int) -> tuple[int, Any]:
    """Returns the step and the state of the latest good checkpoint before a step, or of step 0."""
    saved = checkpoint.latest_good(checkpoints, before=step)
    if saved is None:
        return 0, new_state(trainer)[0]
    return saved, checkpoint.read(checkpoints, saved, trainer.abstract)


def explain(trainer: Trainer, step: int, before: Any, batch: Any) -> str:
    """Returns a report of a step that is not finite.

    Args:
        trainer: the run.
        step: the number of the step.
        before: the state before it.
        batch: its batch.
    """
    run = trainer.run
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(before.params)]
    config = run.config.copy_and_resolve_references()
    config.log.gradients = tuple(f"^{re.escape(name)}$" for name in names)  # the norm of each
    program = make_program(dataclasses.replace(run, config=config), trainer.resident, run.recipe_at(step - 1))
    found = find(parallel.with_mesh(trainer.mesh, program), before, batch, trainer.dataset, trainer.key)
    after, metrics = found.largest
    gradients = [metrics.pop(f"gradient_norm/{pattern}") for pattern in config.log.gradients]
    lines = [
        f"step {step:,} is the first that is not finite",
        f"seed {run.config.seed}; learning rate {metrics['learning_rate']:.3g}; metrics: {listed(metrics)}",
        f"first operation: {found.first or 'none, if the program is compiled so that it can be watched'}",
        f"first NaN: {found.nan}" if found.nan else "",
        f"norms of gradients: {listed(dict(zip(names, gradients, strict=True)))}",
        f"parameters after the step: {listed(dict(zip(names, jax.tree.leaves(after.params), strict=True)))}",
    ]
    return "\n".join(filter(None, lines))


def listed(magnitudes: Mapping[str, float]) -> str:
    """Returns how many values are not finite, and the names of the first."""
    bad = [name for name, value in magnitudes.items() if not math.isfinite(value)]
    shown = f": {', '.join(bad[:SHOWN])}{', ...' if len(bad) > SHOWN else ''}" if bad else ""
    return f"{len(bad)} of {len(magnitudes)} not finite{shown}"


def parser() -> command.Parser:
    parser = command.Parser("replay", __doc__)
    parser.add_argument("--workdir", required=True, metavar="DIR", help="of a run that stopped since it diverged")
    return parser


if __name__ == "__main__":
    command.run(main, parser())
