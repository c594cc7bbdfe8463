"""The section of the report on evaluations, beside their baselines."""

from collections.abc import Mapping, Sequence
from typing import Any

from ssl_jax.report.run import Run
from ssl_jax.report.sections import ABSENT, escape, grid

SHARED = ("images", "bank", "size", "step")  # what is the same for all rows of an evaluation
DETAILS = ("rows", "few")  # of a result: records, one for each setting


def evaluations(runs: Sequence[Run]) -> str:
    """Returns a table for each protocol of `python -m ssl_jax.evaluate`; empty if no run was evaluated."""
    found = {name: None for run in runs for name, one in run.evaluations.items() if one.get("protocol") == name}
    return "".join(evaluation(runs, name) for name in found)


def evaluation(runs: Sequence[Run], name: str) -> str:
    """Returns the tables of one protocol: a row for each run and baseline, and one for each setting."""
    own = {run.name: run.evaluations[name] for run in runs if name in run.evaluations}
    rows = [
        {"": f"{run}, {title}" if len(runs) > 1 else title} | plain(numbers)
        for run, result in own.items()
        for title, numbers in {"trained": result, **result["baselines"]}.items()
    ]
    more = [
        ({"": run} if len(runs) > 1 else {}) | row
        for run, result in own.items()
        for key in DETAILS
        for row in result.get(key, ())
    ]
    first = next(iter(own.values()))
    about = f"{first['source']}, {first['feature']} features at {first['size']} pixels"
    return f"<p><b>{escape(name)}</b> on {escape(about)}</p>{records(rows)}{records(more)}"


def plain(result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the numbers of a result, with the interval of its headline."""
    numbers = {key: value for key, value in result.items() if isinstance(value, int | float) and key not in SHARED}
    return numbers | ({"95 % interval": result["interval"]} if "interval" in result else {})


def records(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns a table of records, with a column for each key of any of them."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return grid(keys, [[number(row.get(key)) for key in keys] for row in rows]) if rows else ""


def number(value: Any) -> str:
    if isinstance(value, list):
        return " - ".join(map(number, value))
    if isinstance(value, float):
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
    return ABSENT if value is None else str(value)
