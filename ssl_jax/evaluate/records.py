"""What is recorded of an evaluation: evaluations/PROTOCOL.json, its lines to print, and the comparison of two runs."""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.evaluate.confidence import Difference, difference, difference_of_draws
from ssl_jax.evaluate.opening import Judged
from ssl_jax.evaluate.result import Result
from ssl_jax.monitor import writers
from ssl_jax.report.evaluations import DETAILS, number, plain
from ssl_jax.words import number_of

COMPARED = ("scores", "draws")  # fields of a result that a comparison takes


def record(name: str, protocol: Any, judged: Judged, results: Mapping[str, Result]) -> dict[str, Any]:
    """Returns what evaluations/PROTOCOL.json holds, given the results by title, of the trained network first."""
    (_, first), *others = results.items()
    subject = judged.subjects[0]
    return {
        "protocol": name,
        "size": subject.size,
        **first.numbers,  # with another size, if images are seen at that
        "baselines": {title: brief(result.numbers) for title, result in others},
        "settings": dataclasses.asdict(protocol),
        "source": subject.samples.bank.images.name,
        "bank": len(subject.samples.bank),
        "feature": subject.chosen,
        **judged.about,
    }


def brief(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a result without the records of each setting."""
    return {name: value for name, value in numbers.items() if name == "interval" or not isinstance(value, list | dict)}


def save(folder: pathlib.Path, name: str, record: Mapping[str, Any], result: Result) -> None:
    """Writes evaluations/PROTOCOL.json and, to compare runs, the scores or draws of test images to PROTOCOL.npz."""
    writers.save(folder, name, record)
    arrays = {key: value for key in COMPARED if (value := getattr(result, key)) is not None}
    if arrays:
        np.savez_compressed(folder / "evaluations" / f"{name}.npz", **arrays)


def lines(name: str, record: Mapping[str, Any]) -> Iterator[str]:
    """Yields the lines to print: the numbers beside the baselines, then those of each setting."""
    yield (
        f"{name}: {number_of(record.get('images', record['bank']), 'image')} of {record['source']}, "
        f"{record['feature']} features at {record['size']} pixels"
    )
    rows = {"trained": record, **record["baselines"]}
    yield from table([{"": title} | plain(numbers) for title, numbers in rows.items()])
    for key in DETAILS:
        yield from table(record.get(key, ()))


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yields records as aligned lines, with a column for each key of any of them."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cells = [keys, *([number(row.get(key)) for key in keys] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for first, *rest in cells if rows else ():
        yield "  " + first.ljust(widths[0]) + "".join(f"  {x:>{w}}" for x, w in zip(rest, widths[1:], strict=True))


def compare(ours: pathlib.Path, theirs: pathlib.Path, names: Sequence[str]) -> Iterator[str]:
    """Yields a sentence for each protocol: whether the first run is better than the second.

    Args:
        ours: a workdir.
        theirs: another.
        names: of protocols; none: those that both were evaluated with.

    Raises:
        UserError: if one was not evaluated, or on other images.
    """
    found = [{path.stem for path in (folder / "evaluations").glob("*.npz")} for folder in (ours, theirs)]
    for folder, there in zip((ours, theirs), found, strict=True):
        if not there:
            raise UserError(
                f"{folder} has no results to compare; first run python -m ssl_jax.evaluate --workdir={folder} "
                "--protocol=knn, or other protocols"
            )
    names = names or sorted(set.intersection(*found))
    if not names:
        raise UserError(f"{ours} and {theirs} were evaluated with no protocol in common; name one with --protocol")
    for name in names:
        first, second = (read(folder, name) for folder in (ours, theirs))
        for key in ("source", "images", "bank"):
            if first[0].get(key) != second[0].get(key):
                raise UserError(
                    f"{name} saw other images in {ours} ({key} {first[0].get(key)}) than in {theirs} "
                    f"({key} {second[0].get(key)}); evaluate both on the same with --data"
                )
        values, gap = against(first[1], second[1])
        verdict = "more than noise" if gap.is_real else "no more than noise"
        yield (
            f"{name}: {values[0]:.1f} in {ours}, {values[1]:.1f} in {theirs}; the difference {gap.value:+.1f} "
            f"(95 %: {gap.low:+.1f} to {gap.high:+.1f}) is {verdict} of the test images"
        )


def against(ours: Result, theirs: Result) -> tuple[tuple[float, float], Difference]:
    """Returns the headlines of two results in percent, and their difference."""
    if ours.draws is not None and theirs.draws is not None:
        return (ours.draws[0], theirs.draws[0]), difference_of_draws(ours.draws, theirs.draws)
    first, second = (100.0 * np.asarray(one.scores) for one in (ours, theirs))
    return (first.mean(), second.mean()), difference(first, second)


def read(folder: pathlib.Path, name: str) -> tuple[dict[str, Any], Result]:
    """Returns the record of a protocol, and as a result the scores or draws of test images."""
    path = folder / "evaluations" / name
    try:
        with np.load(path.with_suffix(".npz")) as arrays:
            found = Result({}, **{key: arrays[key] for key in COMPARED if key in arrays})
            return json.loads(path.with_suffix(".json").read_text()), found
    except (OSError, ValueError):
        raise UserError(
            f"there is no result of {name} in {folder}; run python -m ssl_jax.evaluate --workdir={folder} "
            f"--protocol={name} first"
        ) from None
