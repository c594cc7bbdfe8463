"""The baselines of a run, measured once and kept in its workdir."""

import json
import pathlib
from typing import Any

import jax

from ssl_jax import data, parallel
from ssl_jax.atomic import replacing
from ssl_jax.evaluate.online import Evaluator

FILE = "baselines.json"


def baselines(evaluator: Evaluator, state: Any, workdir: pathlib.Path) -> dict[str, float]:
    """Returns `Evaluator.baselines`, from the workdir if they were measured before.

    Args:
        evaluator: of the run.
        state: the state before the first step.
        workdir: of the run. Its images and `config.evaluate` tell whether what it holds is still right.
    """
    about = description(evaluator, workdir)
    kept = read(workdir / FILE, about) if jax.process_index() == 0 else None
    if parallel.any_process(evaluator.mesh, kept is not None):
        return kept or {}  # only the first process needs them
    measured = evaluator.baselines(state)
    if jax.process_index() == 0:
        with replacing(workdir / FILE) as part:
            part.write_text(json.dumps({"about": about, "measured": measured}, indent=1))
    return measured


def known(evaluator: Evaluator, workdir: pathlib.Path) -> dict[str, float]:
    """Returns the baselines that a workdir holds; empty if there are none."""
    return read(workdir / FILE, description(evaluator, workdir)) or {}


def description(evaluator: Evaluator, workdir: pathlib.Path) -> Any:
    """Returns what baselines depend on."""
    images = data.identity.read(workdir)
    about = {"evaluate": evaluator.run.config.evaluate.to_dict(), "images": images and images["checksum"]}
    return json.loads(json.dumps(about))


def read(path: pathlib.Path, about: Any) -> dict[str, float] | None:
    """Returns the baselines that a file holds; None if there are none, or not of what `about` describes."""
    try:
        found = json.loads(path.read_text())
        return found["measured"] if found["about"] == about else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
