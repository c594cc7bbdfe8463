"""Writes metrics to metrics.jsonl, TensorBoard and, optionally, Weights & Biases."""

import json
import math
import os
import pathlib
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorboardX

from ssl_jax.atomic import replacing
from ssl_jax.errors import UserError
from ssl_jax.words import number_of


class Writers:
    """Writes the metrics of a run; a resumed run leaves the same files as an uninterrupted one.

    Args:
        workdir: the workdir of the run.
        resume_step: the step that the run continues from; later rows are dropped. None: all rows are dropped.
        config: the settings to show in Weights & Biases.
        wandb: whether to write to Weights & Biases too.

    Raises:
        UserError: if `wandb` is set and Weights & Biases is not installed.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        resume_step: int | None = None,
        config: Mapping[str, Any] | None = None,
        wandb: bool = False,
    ):
        workdir = pathlib.Path(workdir)
        last = -1 if resume_step is None else resume_step
        self.wandb = wandb_run(workdir, resume_step is not None, config) if wandb else None
        truncate(workdir / "metrics.jsonl", last)
        self.rows = open(workdir / "metrics.jsonl", "a")  # noqa: SIM115  closed by close()
        first = last + 1
        self.board = tensorboardX.SummaryWriter(
            str(workdir / "tensorboard"), purge_step=first, filename_suffix=f".{first}"
        )

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes one row of scalars, and flushes it to disk."""
        row = {name: number(value) for name, value in metrics.items()}
        finite = {name: value for name, value in row.items() if value is not None}
        self.rows.write(json.dumps({"step": step, **row}, allow_nan=False) + "\n")
        self.rows.flush()
        for name, value in finite.items():
            self.board.add_scalar(name, value, step)
        self.board.flush()
        if self.wandb:
            self.wandb.log(finite, step=step)

    def sync(self) -> None:
        """Waits until the rows are where they survive the machine, or in the bucket that is mounted here."""
        os.fsync(self.rows.fileno())

    def close(self) -> None:
        """Flushes and closes everything."""
        self.sync()
        self.rows.close()
        self.board.close()
        if self.wandb:
            self.wandb.finish()


def save(workdir: pathlib.Path, protocol: str, result: Mapping[str, Any]) -> None:
    """Writes the result of an evaluation protocol to evaluations/PROTOCOL.json."""
    path = workdir / "evaluations" / f"{protocol}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1))


def read(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Returns the rows of a metrics.jsonl, without lines that are none; empty if there is no file."""
    return [row for line in lines(path) if (row := parse(line)) is not None]


def lines(path: str | os.PathLike) -> list[bytes]:
    """Returns the lines of a file, with their ends; none if there is no file."""
    path = pathlib.Path(path)
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def parse(line: bytes) -> dict[str, Any] | None:
    """Returns the row that a line holds, None if it is damaged."""
    try:
        row = json.loads(line)
    except ValueError:  # no JSON, or no UTF-8
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def truncate(path: pathlib.Path, last: int) -> None:
    """Atomically drops the rows of a metrics.jsonl after step `last`, and a last line that a kill cut short.

    Other damaged lines may hold what someone can still mend; they are kept.
    """
    whole = [(line, parse(line)) for line in lines(path) if line.endswith(b"\n")]
    with replacing(path) as part:
        part.write_bytes(b"".join(line for line, row in whole if row is None or row["step"] <= last))
    if damaged := sum(row is None for _, row in whole):
        print(f"warning: {path} has {number_of(damaged, 'damaged line')}, left alone; the others are used")


def number(value: Any) -> int | float | None:
    """Returns a scalar as the shortest decimal that is exact in its precision; None (null) if it is not finite."""
    scalar = np.asarray(value)[()]
    if np.issubdtype(scalar.dtype, np.integer):
        return int(scalar)
    return float(str(scalar)) if math.isfinite(scalar) else None


def wandb_run(workdir: pathlib.Path, resume: bool, config: Mapping[str, Any] | None) -> Any:
    """Returns the Weights & Biases run of a workdir; a resumed run continues the same one."""
    try:
        import wandb
    except ImportError:
        raise UserError(
            "log.wandb is true, but Weights & Biases is not installed; pip install wandb, or set log.wandb=false"
        ) from None
    name = workdir / "wandb_id"
    if not (resume and name.exists()):
        name.write_text(uuid.uuid4().hex)
    return wandb.init(project="ssl_jax", id=name.read_text(), resume="allow", dir=workdir, config=config)
