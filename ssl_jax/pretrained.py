"""Other runs that a run uses: weights to start from, and a teacher."""

import functools
import pathlib
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from ssl_jax import augment, checkpoint, networks, schema, weights
from ssl_jax.errors import UserError
from ssl_jax.fields import to_dict
from ssl_jax.method import Variables
from ssl_jax.run import Run, build_recipes
from ssl_jax.teacher import Teacher
from ssl_jax.workdir import open_run


class Start(NamedTuple):
    """A network to start from."""

    network: Variables  # host arrays
    words: str  # what it is


def read_start(source: str) -> Start:
    """Reads the network that `init.from` names.

    Raises:
        UserError: if there is none.
    """
    path = pathlib.Path(source).expanduser()
    if path.is_file():
        return Start(weights.read_file(path), source)
    opened = open_run(path, weights.ADVICE)
    return Start(opened.network, f"{source} at step {opened.step:,}")


def new_start(config: ConfigDict, workdir: pathlib.Path) -> Start | None:
    """Reads the network that a run starts from; None: from no other, or it goes on from a checkpoint of its own.

    Raises:
        UserError: if the config names weights that cannot be read, or none where it says what to take.
    """
    init = config.init
    if init.take and not init["from"]:
        raise UserError(f"init.take is set and init.from is not; {weights.ADVICE}")
    new = init["from"] and not checkpoint.steps(workdir / "checkpoints")
    return read_start(init["from"]) if new else None


def check_start(run: Run, start: Start) -> None:
    """Checks that a network fits that of a run.

    Raises:
        UserError: if it does not.
    """
    weights.fill(run.method.variables(*run.shapes), start.network, run.config.init.take or schema.TAKE)


def start_from(run: Run, train: Any, start: Start | None = None) -> tuple[Any, str]:
    """Returns a state of step 0 with the weights that the config names, in the network and its target alike.

    Args:
        run: whose config has `init.from`, and `init.take`: regular expressions of the paths to take.
        train: a `TrainState` before the first step.
        start: what `init.from` names, if it was read already.

    Returns:
        The state, and one line to print.

    Raises:
        UserError: if the weights cannot be read, or do not fit.
    """
    source, words = start or read_start(run.config.init["from"])
    network = run.method.variables(train.params, train.state)
    filled, taken = weights.fill(network, source, run.config.init.take or schema.TAKE)
    filled = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), filled, network)
    state = train.state._replace(stats=filled.stats)
    if hasattr(state, "target"):
        state = state._replace(target=jax.tree.map(lambda x: x.copy(), filled))  # a step donates each buffer once
    params = train.params | {"network": filled.params}
    return train._replace(params=params, state=state), f"starts from {words}: {taken}"


def open_teacher(folder: str | None, space: augment.Space) -> Teacher:
    """Opens the encoder of the run in a workdir at its latest checkpoint, for images in the student's colour space.

    Raises:
        UserError: if there is no run in the workdir, or it has no whole checkpoint yet.
    """
    advice = "set method.teacher to the workdir of a trained run, as in --config.method.teacher=runs/byol"
    if not folder:
        raise UserError(f"this method learns from a teacher; {advice}")
    run = open_run(folder, advice)
    network = networks.build(to_dict(run.config.network))
    convert = functools.partial(augment.convert, space=space, other=build_recipes(run.config)[0].space)

    def read() -> Variables:
        return Variables(*({name: part[name] for name in ("encoder",) if name in part} for part in run.network))

    return Teacher(network, read, convert)
