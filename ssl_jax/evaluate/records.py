"""What is recorded of an evaluation: evaluations/PROTOCOL.json, its lines to print, and the comparison of two runs."""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.evaluate.confidence import difference
from ssl_jax.evaluate.opening import Judged
from ssl_jax.evaluate.result import Result
from ssl_jax.monitor import writers
from ssl_jax.report.evaluations import DETAILS, number, plain


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


def save(folder: pathlib.Path, name: str, record: Mapping[str, Any], scores: np.ndarray | None) -> None:
    """Writes evaluations/PROTOCOL.json and, to compare runs, the scores of test images to PROTOCOL.npz."""
    writers.save(folder, name, record)
    if scores is not None:
        np.savez_compressed(folder / "evaluations" / f"{name}.npz", scores=scores)


def lines(name: str, record: Mapping[str, Any]) -> Iterator[str]:
    """Yields the lines to print: the numbers beside the baselines, then those of each setting."""
    yield (
        f"{name}: {record.get('images', record['bank']):,} images of {record['source']}, "
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
                f"{folder} has no results to compare; run python -m ssl_jax.evaluate --workdir={folder} first"
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
        found_difference = difference(100.0 * first[1], 100.0 * second[1])
        verdict = "more than noise" if found_difference.is_real else "no more than noise"
        yield (
            f"{name}: {100 * first[1].mean():.1f} in {ours}, {100 * second[1].mean():.1f} in {theirs}; the difference "
            f"{found_difference.value:+.1f} (95 %: {found_difference.low:+.1f} to {found_difference.high:+.1f}) is "
            f"{verdict} of the test images"
        )


def read(folder: pathlib.Path, name: str) -> tuple[dict[str, Any], np.ndarray]:
    """Returns the record of a protocol and the scores of test images."""
    path = folder / "evaluations" / name
    try:
        with np.load(path.with_suffix(".npz")) as arrays:
            return json.loads(path.with_suffix(".json").read_text()), arrays["scores"]
    except (OSError, ValueError, KeyError):
        raise UserError(
            f"there is no result of {name} in {folder}; run python -m ssl_jax.evaluate --workdir={folder} "
            f"--protocol={name} first"
        ) from None
