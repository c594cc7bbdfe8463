"""The folder of a run: what it holds, whose it is, and weights of another run to start from."""

import contextlib
import datetime
import fcntl
import functools
import json
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from ssl_jax import augment, checkpoint, networks, schema, weights
from ssl_jax.config import flatten
from ssl_jax.errors import UserError
from ssl_jax.fields import to_dict
from ssl_jax.method import Variables
from ssl_jax.methods import METHODS
from ssl_jax.run import build_recipe
from ssl_jax.teacher import Teacher

# What may change between two starts of one run without changing what it trains; but not what shapes its state.
FREE = ("log.", "checkpoint.", "evaluate.", "data.dir", "data.workers", "data.device_bytes", "data.host_bytes")
FIXED = ("evaluate.labels",)


LOCK = "lock"


class Opened(NamedTuple):
    """A run that another one reads from."""

    config: ConfigDict
    checkpoints: pathlib.Path
    step: int  # of the latest checkpoint without a fault

    @property
    def network(self) -> Variables:
        """The network it trained, as host arrays."""
        return weights.read_network(self.checkpoints, self.step, schema.method_class(self.config))


def open_run(folder: str | os.PathLike, advice: str) -> Opened:
    """Opens the run in a workdir.

    Args:
        folder: the workdir.
        advice: what to do if there is none.

    Raises:
        UserError: if there is no run in the workdir, or it has no whole checkpoint yet.
    """
    path = pathlib.Path(folder).expanduser().resolve()
    try:
        config = ConfigDict(json.loads((path / "config.json").read_text()))
    except (OSError, ValueError) as error:
        raise UserError(f"there is no run in {str(folder)!r}, whose config.json cannot be read; {advice}") from error
    step = checkpoint.latest_good(path / "checkpoints")
    if step is None:
        raise UserError(f"the run in {str(folder)!r} has no whole checkpoint yet; train it first")
    return Opened(config, path / "checkpoints", step)


def claim(workdir: pathlib.Path, config: ConfigDict) -> None:
    """Makes a workdir this run's own, by its config.json.

    Raises:
        UserError: if it cannot be written, or holds another run; nothing in it is changed then.
    """
    path, part = workdir / "config.json", workdir / "config.json.part"
    try:
        if path.exists():
            check_same(workdir, json.loads(path.read_text()), config)
        elif workdir.is_dir() and any(file.name not in (path.name, part.name, LOCK) for file in workdir.iterdir()):
            raise UserError(f"{workdir} is not empty and has no config.json; name another --workdir")
        if jax.process_index() == 0:
            workdir.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(config.to_dict(), indent=1))
            part.replace(path)  # whole or not at all, whoever reads it meanwhile
    except OSError as error:
        raise UserError(
            f"the workdir {workdir} cannot be written ({error.strerror}); name another --workdir"
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is damaged; restore it or name another --workdir") from error


def check_same(workdir: pathlib.Path, theirs: dict[str, Any], ours: ConfigDict) -> None:
    """Checks that a workdir's run differs in nothing but what may change.

    A key that is not set on one side, perhaps because it is newer than the run, has its default there.

    Raises:
        UserError: if it differs in more.
    """
    there, here = with_defaults(theirs), with_defaults(ours)
    keys = [key for key in there | here if not key.startswith(FREE) or key in FIXED]
    differ = [key for key in keys if there.get(key) != here.get(key)]
    if differ:
        changes = ", ".join(f"{key} ({there.get(key)!r} there, {here.get(key)!r} now)" for key in differ)
        raise UserError(f"{workdir} holds another run, which differs in {changes}; name another --workdir")


def with_defaults(config: dict[str, Any] | ConfigDict) -> dict[str, Any]:
    """Returns the values of a config as they read from JSON, and the default of each field that is not set."""
    known = dict(schema.defaults(config)) if schema.lookup(config, "method.name") in METHODS else {}
    given = {key: value for key, value in flatten(config).items() if value is not None}
    return json.loads(json.dumps(known | given))


@contextlib.contextmanager
def lock(workdir: pathlib.Path) -> Iterator[None]:
    """Keeps other commands from writing to a workdir; the lock ends with the process, however it ends.

    Raises:
        UserError: if another process holds it.
    """
    if jax.process_index():  # the first process stands for all of a run
        yield
        return
    with open(workdir / LOCK, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise UserError(
                f"{workdir} is in use by {file.read().strip() or 'another process'}; wait for it, stop it, or name "
                "another --workdir"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {datetime.datetime.now():%Y-%m-%d %H:%M}")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


ADVICE = "set init.from to the workdir of a trained run, or to an .npz file of its network"


def read_weights(source: str) -> tuple[Variables, str]:
    """Reads the network that `init.from` names.

    Returns:
        The network, and what it is in words.
    """
    if pathlib.Path(source).is_file():
        return weights.read_file(pathlib.Path(source)), source
    opened = open_run(source, ADVICE)
    return opened.network, f"{source} at step {opened.step:,}"


def start_from(run: Any, train: Any) -> tuple[Any, str]:
    """Returns a state of step 0 with the weights that the config names, in the network and its target alike.

    Args:
        run: whose config has `init.from`, and `init.take`: regular expressions of the paths to take.
        train: a `TrainState` before the first step.

    Returns:
        The state, and one line to log.

    Raises:
        UserError: if the weights cannot be read, or none of them fits.
    """
    source, words = read_weights(run.config.init["from"])
    network = run.method.variables(train.params, train.state)
    rules = run.config.init.take or schema.TAKE
    filled, taken = weights.fill(jax.device_get(network), source, rules)
    filled = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), filled, network)
    params = train.params | {"network": filled.params}
    state = train.state._replace(stats=filled.stats)
    target = getattr(state, "target", None)
    if target is not None:
        state = state._replace(target=jax.tree.map(lambda x: x.copy(), filled))
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
    convert = functools.partial(augment.convert, space=space, other=build_recipe(run.config).space)

    def read() -> Variables:
        return Variables(*({name: part[name] for name in ("encoder",) if name in part} for part in run.network))

    return Teacher(network, read, convert)
