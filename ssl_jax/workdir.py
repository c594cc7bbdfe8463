"""The folder of a run: what it holds, and whose it is."""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from ssl_jax import checkpoint, data, schema, weights
from ssl_jax.atomic import replacing
from ssl_jax.config import PATHS, absolute, flatten
from ssl_jax.errors import UserError
from ssl_jax.method import PyTree, Variables
from ssl_jax.methods import METHODS
from ssl_jax.run import Run

# What may change between two starts of one run without changing what it trains; but not what shapes its state.
# The images themselves are compared, in place of data.max_pixels.
FREE = (
    *("log.", "checkpoint.", "evaluate.", "mesh."),
    *("data.dir", "data.workers", "data.device_bytes", "data.host_bytes", "data.changed", "data.max_pixels"),
)
FIXED = ("evaluate.labels", "evaluate.source")
LENGTH = ("epochs", "minutes", "steps")  # see `length.check`
LOCK = "lock"
# What else a run writes into its workdir.
WRITTEN = (
    *("checkpoints", data.identity.FILE, data.identity.FILES, "environment.json", "evaluations", "metrics.jsonl"),
    *("baselines.json", "nonfinite.json"),
    *("report.html", "tensorboard"),
    *("attention.png", "components.png", "neighbours.png", "reconstructions.png", "removal.png", "similarity.png"),
    *("views.png", "wandb", "wandb_id"),
)
UNFINISHED = (LOCK, "config.part.json")  # of a start that was killed
SHOWN = 5  # keys named in an error


class Opened(NamedTuple):
    """A run that another one reads from."""

    config: ConfigDict
    checkpoints: pathlib.Path
    step: int  # of the latest checkpoint without a fault

    @property
    def network(self) -> Variables:
        """The network it trained, as host arrays."""
        return weights.read_network(self.checkpoints, self.step, schema.method_class(self.config))

    def trained(self, run: Run) -> tuple[PyTree, Any]:
        """Returns the parameters and the state of the method, as host arrays.

        Args:
            run: the run of this config.

        Raises:
            UserError: if the checkpoint does not fit it.
        """
        abstract = dict(zip(("params", "state"), run.shapes, strict=True))
        tree = checkpoint.read_parts(self.checkpoints, self.step, abstract)
        return tree["params"], tree["state"]


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
        config = ConfigDict(read_config(path) | {"mesh": {}})  # not the devices that it was trained on
    except (OSError, ValueError) as error:
        raise UserError(f"there is no run in {str(folder)!r}: its config.json cannot be read; {advice}") from error
    step = checkpoint.latest_good(path / "checkpoints")
    if step is None:
        parts = ", only damaged or unfinished ones" if checkpoint.steps(path / "checkpoints") else " yet"
        raise UserError(f"the run in {str(folder)!r} has no whole checkpoint{parts}; train it first")
    return Opened(config, path / "checkpoints", step)


def read_config(workdir: str | os.PathLike) -> dict[str, Any]:
    """Returns what a workdir's config.json says.

    Raises:
        OSError: if there is none that can be read.
        ValueError: if it is damaged.
    """
    config = json.loads((pathlib.Path(workdir).expanduser() / "config.json").read_text())
    if not isinstance(config, dict):
        raise ValueError("it holds no object")
    return config


@contextlib.contextmanager
def hold(workdir: pathlib.Path, config: ConfigDict) -> Iterator[None]:
    """Makes a workdir this run's own, and keeps other commands from training in it meanwhile.

    Raises:
        UserError: as `claim` and `lock`.
    """
    check_free(workdir, config)
    with lock(workdir):
        claim(workdir, config)  # checks again: another command may have been faster
        yield


def claim(workdir: pathlib.Path, config: ConfigDict) -> None:
    """Makes a workdir this run's own, by its config.json.

    Raises:
        UserError: as `check_free`, or if it cannot be written.
    """
    check_free(workdir, config)
    if jax.process_index() == 0:
        with writing(workdir):
            workdir.mkdir(parents=True, exist_ok=True)
            with replacing(workdir / "config.json") as part:
                part.write_text(json.dumps(config.to_dict(), indent=1))


def check_free(workdir: pathlib.Path, config: ConfigDict) -> None:
    """Checks that a workdir holds this run, which this version can read, or nothing of a run; changes nothing.

    Raises:
        UserError: if it is not.
    """
    path = workdir / "config.json"
    with writing(workdir):
        if path.exists():
            checkpoint.check_format(workdir / "checkpoints")
            try:
                theirs = read_config(workdir)
            except ValueError as error:
                raise UserError(f"{path} is damaged; restore it or name another --workdir") from error
            check_same(workdir, theirs, config)
        else:
            check_folder(workdir)


def check_folder(workdir: pathlib.Path) -> None:
    """Checks that a workdir can be written, and either is a run's or holds neither images nor other runs.

    Raises:
        UserError: if it is not.
    """
    with writing(workdir):
        place = next(path for path in (workdir, *workdir.parents) if path.exists())
        if not os.access(place, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if place != workdir:
            return
        inside = sorted(os.listdir(workdir))
        if "config.json" in inside or (workdir / "config.json").exists():  # another process may just have written it
            return
        names = [name for name in inside if not (data.files.is_hidden(name) or name in UNFINISHED)]
        folders = [name for name in names if (workdir / name).is_dir()]
        runs = [name for name in folders if data.files.is_workdir(os.listdir(workdir / name))]
        images = (image for name in names for image in images_at(workdir / name))
        image = None if runs else next(images, None)
    if there := [name for name in names if name in WRITTEN]:
        raise UserError(
            f"{workdir} has no config.json, but {' and '.join(there)}, as a run does; restore its config.json, or "
            "name another --workdir"
        )
    if runs:
        raise UserError(f"{workdir} holds other runs ({few(runs)}); name a folder of its own as --workdir of this one")
    if image:
        raise UserError(
            f"{workdir} holds images, such as {image.relative_to(workdir)}, among which a run would write its files; "
            "name a new or empty folder as --workdir"
        )


def images_at(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the images that a path is of, or holds at any depth."""
    files = (pathlib.Path(at, name) for at, _, names in os.walk(path) for name in names) if path.is_dir() else (path,)
    suffixes = data.image.suffixes()
    return (file for file in files if file.name.lower().endswith(suffixes))


@contextlib.contextmanager
def writing(workdir: pathlib.Path) -> Iterator[None]:
    """Turns errors of the file system into a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"the workdir {workdir} cannot be written ({error.strerror}); name another --workdir"
        ) from error


def check_same(workdir: pathlib.Path, theirs: dict[str, Any], ours: ConfigDict) -> None:
    """Checks that the run in a workdir has this config, but for keys that may change on resume.

    Raises:
        UserError: if it differs in more.
    """
    differ = differences(theirs, ours)
    if (workdir / data.identity.FILE).exists():  # then the images are compared, wherever they are
        differ.pop("data.source", None)
    if differ:

        def show(value):
            return "unset" if value is None else repr(value)

        changes = [f"{key} ({show(there)} there, {show(here)} now)" for key, (there, here) in differ.items()]
        raise UserError(
            f"{workdir} holds another run, which differs in {few(changes)}; "
            "to go on with that run set them as they were there, else name another --workdir"
        )


def few(names: Sequence[str]) -> str:
    """Returns the first of some names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def differences(theirs: Mapping[str, Any], ours: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Returns the values there and here of the keys that make two configs different runs, the method's name first.

    A key that is not set on one side, perhaps because it is newer than the run, has its default there. The length of a
    run is no such key.
    """
    there, here = with_defaults(theirs), with_defaults(ours)
    compared = [key for key in there | here if shapes_run(key) and key not in LENGTH]
    differ = [key for key in compared if there.get(key) != here.get(key)]
    differ.sort(key=lambda key: key != "method.name")  # of another method all else follows
    return {key: (there.get(key), here.get(key)) for key in differ}


def shapes_run(key: str) -> bool:
    """Returns whether a run with another value of this config key is another run."""
    return key in FIXED or not key.startswith(FREE)


def with_defaults(config: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """Returns the values of a config as they read from JSON, paths made absolute, and defaults where none is set."""
    known = dict(schema.defaults(config)) if schema.lookup(config, "method.name") in METHODS else {}
    given = {key: value for key, value in flatten(config).items() if value is not None}
    given |= {key: absolute(given[key]) for key in PATHS if given.get(key)}
    return json.loads(json.dumps(known | given))


@contextlib.contextmanager
def lock(workdir: pathlib.Path) -> Iterator[None]:
    """Keeps other commands from training in a workdir; the lock ends with the process, however it ends.

    Raises:
        UserError: if another process holds it, or the workdir cannot be written.
    """
    if jax.process_index():  # the first process stands for all of a run
        yield
        return
    with writing(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        file = open(workdir / LOCK, "a+")  # noqa: SIM115  # errors of the file system are explained here alone
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UserError(
                f"{workdir} is in use by {file.read().strip() or 'another process'}; wait for it, stop it, or name "
                "another --workdir"
            ) from error
        except OSError:
            print(f"warning: the file system of {workdir} knows no locks; start no second command in it")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {datetime.datetime.now():%Y-%m-%d %H:%M}")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def check_unused(workdir: pathlib.Path) -> None:
    """Checks that no other command trains in a workdir, before long work that would be in vain.

    Raises:
        UserError: if one does.
    """
    if (workdir / LOCK).exists():
        with lock(workdir):
            pass
