"""Reads a run from the files of its workdir."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from ssl_jax.errors import UserError
from ssl_jax.monitor import writers

PICTURES = {
    "views.png": "Augmented views",
    "neighbours.png": "Nearest neighbours of test images",
    "attention.png": "Attention",
    "components.png": "Components of patch features",
    "reconstructions.png": "Reconstructions",
    "removal.png": "Kept and removed patches",
    "similarity.png": "Similarity of patches and captions",
}


class Run(NamedTuple):
    """The contents of a workdir."""

    name: str  # unique among the runs of a report
    config: dict[str, Any]  # flat: "optimizer.learning_rate" -> value
    environment: dict[str, Any]  # flat; empty if it was not recorded
    rows: list[dict[str, Any]]  # of metrics.jsonl
    pictures: dict[str, bytes]  # title -> PNG
    evaluations: dict[str, dict[str, Any]]  # protocol -> its result

    def series(self, metric: str) -> tuple[list[int], list[float]]:
        """Returns the steps at which a metric was measured, and its values."""
        points = [(row["step"], row[metric]) for row in self.rows if row.get(metric) is not None]
        return [step for step, _ in points], [value for _, value in points]

    def last(self, metric: str) -> float | None:
        """Returns the last value of a metric, or None if it was never measured."""
        _, values = self.series(metric)
        return values[-1] if values else None

    @property
    def steps(self) -> int:
        """The last step at which anything was measured."""
        return max((row["step"] for row in self.rows), default=0)


def load(workdirs: Sequence[str | os.PathLike]) -> list[Run]:
    """Reads the runs of workdirs, and gives each a unique name.

    Raises:
        UserError: if a workdir does not exist or has no run.
    """
    paths = [pathlib.Path(workdir).expanduser().resolve() for workdir in workdirs]
    names = [path.name for path in paths]
    unique = len(set(names)) == len(names)
    return [load_one(path, path.name if unique else str(path)) for path in paths]


def load_one(path: pathlib.Path, name: str) -> Run:
    if not path.is_dir():
        raise UserError(f"{path} is not a directory; give the --workdir of a run")
    for needed in ("config.json", "metrics.jsonl"):
        if not (path / needed).is_file():
            raise UserError(f"there is no run in {path}: it has no {needed}; give the --workdir of a run")
    return Run(
        name,
        flatten(read_json(path / "config.json")),
        flatten(read_json(path / "environment.json")) if (path / "environment.json").exists() else {},
        writers.read(path / "metrics.jsonl"),
        {title: (path / file).read_bytes() for file, title in PICTURES.items() if (path / file).exists()},
        {file.stem: read_json(file) for file in sorted((path / "evaluations").glob("*.json"))},
    )


def read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); restore it or leave this workdir out") from None


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a nested dict as a flat one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
