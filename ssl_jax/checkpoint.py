"""Checkpoints of a whole training state with Orbax: written in the background, verified when opened, read on any mesh.

A checkpoint is a flat table from the path of each array in the state to the array, so it depends neither on container
types nor on the number of devices. Before it is committed it is sealed with the size and checksum of its files: Orbax
alone does not notice a flipped bit, and what fails the seal is never read.
"""

import json
import math
import zlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from orbax.checkpoint import checkpoint_managers

from ssl_jax.errors import UserError
from ssl_jax.numeric import path_name

PyTree = Any

ARRAYS = "default"  # Orbax's name for the one thing each checkpoint holds
SEAL = "seal.json"
FORMAT = 2  # of the paths in a checkpoint: since 2, parameters are grouped by role and targets are `Variables`
ASIDE = "damaged"  # where damaged checkpoints are put, so that they neither hide good ones nor block their step
SHOWN = 5  # keys named in an error


class Checkpoints:
    """Writes and reads the checkpoints of a run.

    Opening verifies every checkpoint and moves the damaged ones to a folder of their own.

    Args:
        directory: where they are, local or gs://; made if missing.
        keep: how many of the latest are kept, the best one not counted.
        best: the metric by which one more is kept, larger is better.
        warn: takes a sentence about each checkpoint that is damaged.

    Raises:
        UserError: if there are checkpoints, but not one is good, or if they are of an older format.
    """

    def __init__(self, directory, keep: int = 2, best: str = "knn_top1", warn: Callable[[str], None] = logging.warning):
        logging.get_absl_logger().addFilter(not_orbax)
        self.directory = epath.Path(directory)
        self.best = best
        check_format(self.directory)
        if jax.process_index() == 0:
            set_damaged_aside(self.directory, keep, warn)
        ocp.multihost.sync_global_processes("ssl_jax:verified")
        if not steps(self.directory) and steps(self.directory / ASIDE):
            raise UserError(
                f"all checkpoints in {self.directory} are damaged (now in {self.directory / ASIDE}): "
                "put back a good copy, or start anew in another workdir"
            )

        def value(metrics):
            return metrics[best]

        policies = [
            checkpoint_managers.LatestN(keep),
            checkpoint_managers.BestN(get_metric_fn=value, n=1, keep_checkpoints_without_metrics=False),
        ]
        options = ocp.CheckpointManagerOptions(
            best_fn=value,
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
            cleanup_tmp_directories=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)
        self._saving: int | None = None

    def save(self, step: int, state: PyTree, metrics: Mapping[str, float] | None = None) -> None:
        """Copies the state, then writes it in the background; a step that is already there is left alone.

        Args:
            step: the number of steps the state has seen.
            state: arrays in any pytree; on several hosts, each calls this.
            metrics: what was measured at this step; without a finite `best` it cannot become the best.

        Raises:
            Exception: the error with which the previous save failed, if it did.
        """
        self.wait()  # the save before seals itself under self._saving
        if step in self._manager.all_steps():
            return
        values = {name: float(value) for name, value in (metrics or {}).items()}
        measured = math.isfinite(values.get(self.best, math.nan))
        self._saving = step
        with jax.transfer_guard("allow"):
            arrays = ocp.args.StandardSave(to_table(state))
            self._manager.save(step, args=arrays, metrics=values if measured else None, force=True)

    def restore(self, abstract: PyTree) -> tuple[int, PyTree] | None:
        """Reads the latest checkpoint.

        Args:
            abstract: the expected state as `ShapeDtypeStruct`s, whose shardings say where each array goes.

        Returns:
            Its step and the state; None if there is no checkpoint yet.

        Raises:
            UserError: if the checkpoint is of another state.
        """
        self.wait()
        step = self.latest_step()
        return None if step is None else (step, read(self.directory, step, abstract))

    def latest_step(self) -> int | None:
        """Returns the step of the latest checkpoint, None if there is none."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """Returns the step of the checkpoint with the largest `best`, None if it was never measured."""
        return self._manager.best_step()

    def wait(self) -> None:
        """Blocks until what was saved is on disk; raises what went wrong meanwhile."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the save in progress, then closes the manager."""
        self._manager.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def _seal(self) -> None:
        """Runs in the background, on the first host, when all files are written and before Orbax commits them."""
        seal(next(path for path in self.directory.iterdir() if path.name.split(".")[0] == str(self._saving)))


def read(directory, step: int, abstract: PyTree) -> PyTree:
    """Returns the state saved at a step, on the shardings of `abstract`; see `Checkpoints.restore`."""
    path = epath.Path(directory) / str(step) / ARRAYS
    expected = to_table(abstract)
    with ocp.StandardCheckpointer() as checkpointer:
        check_fits(step, expected, dict(checkpointer.metadata(path).item_metadata.tree))
        table = checkpointer.restore(path, expected)
    return from_table(table, abstract)


def array_names(directory, step: int) -> list[str]:
    """Returns the paths of the arrays of a checkpoint."""
    path = epath.Path(directory) / str(step) / ARRAYS
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        return list(checkpointer.metadata(path).item_metadata.tree)


def read_arrays(directory, step: int, names: Collection[str]) -> dict[str, np.ndarray]:
    """Returns some arrays of a checkpoint, by path, on the host."""
    path = epath.Path(directory) / str(step) / ARRAYS
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        table = checkpointer.metadata(path).item_metadata.tree
        found = {name: table[name] for name in names}
        kinds = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in found}
        wanted = ocp.args.PyTreeRestore(found, restore_args=kinds, partial_restore=True)
        return checkpointer.restore(path, args=wanted) if found else {}


def read_parts(directory, step: int, abstract: Mapping[str, PyTree]) -> Any:
    """Returns parts of the state saved at a step, such as `params`, by name, on the host; see `read`."""
    names = [name for name in array_names(directory, step) if name.split("/")[0] in abstract]
    table = read_arrays(directory, step, names)
    check_fits(step, to_table(abstract), table)
    return from_table(table, abstract)


def latest_good(directory, before: float = math.inf) -> int | None:
    """Returns the step of the latest checkpoint without a fault, and before a step; None if there is none.

    Raises:
        UserError: if the checkpoints are of an older format.
    """
    logging.get_absl_logger().addFilter(not_orbax)
    directory = epath.Path(directory)
    check_format(directory)
    earlier = (step for step in reversed(steps(directory)) if step < before)
    return next((step for step in earlier if not find_fault(directory / str(step))), None)


def check_format(directory) -> None:
    """Checks that the checkpoints in a directory name their arrays as this version does.

    Raises:
        UserError: if one does not.
    """
    directory = epath.Path(directory)
    for step in steps(directory):
        try:
            found = json.loads((directory / str(step) / SEAL).read_text()).get("format", 1)
        except (OSError, ValueError, AttributeError):
            continue  # damaged, which `find_fault` says
        if found != FORMAT:
            raise UserError(
                f"the checkpoint of step {step} in {directory} has format {found} and this version reads {FORMAT}: "
                "finish the run with the version of ssl_jax that began it, or start anew in another workdir"
            )


def check_fits(step: int, expected: Mapping, found: Mapping) -> None:
    """Raises a UserError that names the arrays in which a checkpoint differs from the expected state."""

    def describe(array):
        return f"{array.dtype}{list(array.shape)}"

    differ = [f"{name} is not in the checkpoint" for name in expected if name not in found]
    differ += [f"{name} is only in the checkpoint" for name in found if name not in expected]
    differ += [
        f"{name} is {describe(found[name])} in the checkpoint and {describe(array)} now"
        for name, array in expected.items()
        if name in found and describe(found[name]) != describe(array)
    ]
    if differ:
        more = f" and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
        raise UserError(
            f"the checkpoint of step {step} does not fit this config: {'; '.join(differ[:SHOWN])}{more}; "
            "go back to the config it was made with, or start anew in another workdir"
        )


def to_table(state: PyTree) -> dict[str, Any]:
    """Returns the arrays of a state under their paths; those without an element, which Orbax refuses, are left out."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {path_name(path): leaf for path, leaf in leaves if leaf.size}


def from_table(table: Mapping[str, Any], abstract: PyTree) -> PyTree:
    """Returns the state of which `to_table` made a table."""

    def array(path, leaf):
        return table[path_name(path)] if leaf.size else jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)

    return jax.tree_util.tree_map_with_path(array, abstract)


def steps(directory) -> list[int]:
    """Returns the steps of the checkpoints in a directory, whether good or not, in order."""
    directory = epath.Path(directory)
    paths = directory.iterdir() if directory.exists() else ()
    return sorted(int(path.name) for path in paths if path.name.isdecimal())


def set_damaged_aside(directory: epath.Path, keep: int, warn: Callable[[str], None]) -> None:
    """Moves every damaged checkpoint to a folder of its own, with a warning.

    One that lacks files, and is older than as many whole ones as are kept, was being deleted: what is left is removed.
    """
    whole = 0
    for step in reversed(steps(directory)):
        fault = find_fault(directory / str(step))
        whole += not fault
        if fault and whole >= keep and not fault.endswith("changed"):
            (directory / str(step)).rmtree()
            warn(f"the checkpoint of step {step} was being deleted when the run was killed; its rest is removed")
        elif fault:
            aside = directory / ASIDE / str(step)
            if aside.exists():
                aside.rmtree()
            aside.parent.mkdir(exist_ok=True)
            (directory / str(step)).rename(aside)
            warn(f"the checkpoint of step {step} is damaged ({fault}) and was moved to {aside}")


def seal(path: epath.Path) -> None:
    """Writes the size and checksum of every file of a checkpoint into its seal."""
    (path / SEAL).write_text(json.dumps({"format": FORMAT, "files": fingerprints(path)}))


def find_fault(path) -> str | None:
    """Returns what is wrong with a checkpoint, None if its files are those that were sealed."""
    path = epath.Path(path)
    try:
        sealed = json.loads((path / SEAL).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"{SEAL} is missing or unreadable"
    found = fingerprints(path)
    changed = [name for name in sealed if found.get(name) != sealed[name]]
    return f"{changed[0]} is {'changed' if changed[0] in found else 'missing'}" if changed else None


def fingerprints(path: epath.Path) -> dict[str, list[int]]:
    """Returns, for each file of a checkpoint's arrays and metrics, its size and CRC-32."""
    items = [item for item in path.iterdir() if item.is_dir()]  # the files beside them Orbax still changes
    files = (folder / name for item in items for folder, _, names in item.walk() for name in names)
    return {str(file.relative_to(path)): fingerprint(file) for file in files}


def fingerprint(file: epath.Path) -> list[int]:
    size = checksum = 0
    with file.open("rb") as stream:
        while block := stream.read(1 << 24):
            size, checksum = size + len(block), zlib.crc32(block, checksum)
    return [size, checksum]


def not_orbax(record) -> bool:
    """Drops Orbax's log lines, dozens per save; what matters is raised."""
    return "/orbax/checkpoint/" not in epath.Path(record.pathname).as_posix()
