"""The sections of the report, each rendered to HTML from the runs."""

import base64
import html
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ssl_jax.monitor import first_weights
from ssl_jax.monitor.watch import Watch
from ssl_jax.report import charts
from ssl_jax.report.run import Run
from ssl_jax.words import number_of

TITLES = {  # of the known metrics, in the order of the page
    "knn_top1": "k-NN top-1 [%]",
    "backbone_knn_top1": "k-NN top-1 of the backbone [%]",
    "projection_knn_top1": "k-NN top-1 of the projection [%]",
    "probe_top1": "Online linear probe, top-1 [%]",
    "loss": "Loss",
    "learning_rate": "Learning rate",
    "projection_std": "Spread of the projections (1: full, 0: collapsed)",
    "projection_crowding": "Share of the projections close to their mean",
    "rank": "Effective rank of the features",
    "target_entropy": "Entropy of the targets, as a share of log K",
    "marginal_entropy": "Entropy of the mean target, as a share of log K",
    "gradient_norm": "Norm of the gradient",
    "probe_loss": "Loss of the online probe",
    "images_per_second": "Images per second",
}
LEVELS = {  # metric -> the baselines it is compared with
    "knn_top1": {"step 0": "init_knn_top1", "raw pixels": "raw_knn_top1"},
    "probe_top1": {"step 0": "init_linear_top1", "raw pixels": "raw_linear_top1"},
    "loss": {"collapsed": "uniform_loss"},
}
ABSENT = "-"


def last(metric: str, form: str) -> Callable[[Run], str | None]:
    """Returns a function that reads the last value of a metric of a run as text."""

    def read(run: Run) -> str | None:
        value = run.last(metric)
        return None if value is None else format(value, form)

    return read


def speed(run: Run) -> str | None:
    values = run.series("images_per_second")[1]
    return f"{statistics.median(values):,.0f}" if values else None


def beside_baselines(metric: str) -> dict[str, Callable[[Run], str | None]]:
    names = {"trained": "", "step 0": "init_", "raw pixels": "raw_"}
    return {name: last(prefix + metric, ".1f") for name, prefix in names.items()}


def evaluated(protocol: str, name: str) -> Callable[[Run], str | None]:
    """Returns a function that reads a figure of an evaluation of a run as text."""

    def read(run: Run) -> str | None:
        value = run.evaluations.get(protocol, {}).get(name)
        return None if value is None else format(value, ".1f")

    return read


COLUMNS = {  # of the table of results: group -> name -> what to read from a run
    "k-NN top-1 [%]": beside_baselines("knn_top1"),
    "linear top-1 [%]": beside_baselines("linear_top1"),
    "probe top-1 [%]": {"trained": last("probe_top1", ".1f")},
    "attention and masks, Jaccard [%]": {
        "trained": evaluated("segmentation", "jaccard"),
        "random": evaluated("segmentation", "random_jaccard"),
        "whole image": evaluated("segmentation", "whole_jaccard"),
    },
    "training": {"steps": lambda run: f"{run.steps:,}", "loss": last("loss", ".4g"), "images/s": speed},
}


def escape(value: Any) -> str:
    """Returns a text for HTML; what is no UTF-8 in the name of a file becomes a question mark."""
    return html.escape(str(value).encode("utf-8", "replace").decode())


def heading(runs: Sequence[Run]) -> tuple[str, str]:
    """Returns the title and the line below it."""
    titles = [str(run.config.get("method.name", run.name)) for run in runs]
    about = [
        " · ".join(
            str(part)
            for part in (
                run.config.get("data.source"),
                run.config.get("network.encoder.name"),
                number_of(run.steps, "step"),
                f"batch {run.config['batch_size']:,}" if "batch_size" in run.config else None,
                run.environment.get("devices"),
            )
            if part
        )
        for run in runs
    ]
    return " against ".join(dict.fromkeys(titles)), about[0] if len(runs) == 1 else f"{len(runs)} runs"


def results(runs: Sequence[Run]) -> str:
    """Returns the table of final results, with a row per run; columns that are empty for all runs are left out."""
    groups = {}
    for group, columns in COLUMNS.items():
        values = {name: [read(run) for run in runs] for name, read in columns.items()}
        groups[group] = {name: column for name, column in values.items() if any(column)}
    groups = {group: columns for group, columns in groups.items() if columns}

    spans = "".join(f'<colgroup span="{len(columns)}"></colgroup>' for columns in groups.values())
    heads = "".join(f'<th class="group" colspan="{len(columns)}">{group}</th>' for group, columns in groups.items())
    names = "".join(f"<th>{name}</th>" for columns in groups.values() for name in columns)
    lines = [f"<colgroup></colgroup>{spans}<tr><th></th>{heads}</tr><tr><th>run</th>{names}</tr>"]
    for index, run in enumerate(runs):
        cells = "".join(
            f'<td class="{name}">{column[index] or ABSENT}</td>'
            for columns in groups.values()
            for name, column in columns.items()
        )
        lines.append(f"<tr><td>{swatch(runs, index)}{escape(run.name)}</td>{cells}</tr>")
    return f'<table class="results">{"".join(lines)}</table>'


def health(run: Run, named: bool) -> str:
    """Returns the findings on a run: how it compares with the baselines, and signs of failure."""
    findings = [*gains(run), *alarms(run)]
    if not findings:
        return ""
    kind = "say warn" if any(bad for bad, _ in findings) else "say"
    lines = [f"<b>{escape(run.name)}</b>"] if named else []
    return f'<p class="{kind}">{"<br>".join([*lines, *(escape(line) for _, line in findings)])}</p>'


def gains(run: Run) -> Iterable[tuple[bool, str]]:
    """Yields, for each accuracy, whether training failed to beat a baseline, and a sentence about it."""
    for what, metric in (("k-NN", "knn_top1"), ("linear", "linear_top1")):
        trained, init, raw = (run.last(prefix + metric) for prefix in ("", "init_", "raw_"))
        if trained is None or init is None or raw is None:
            continue
        parts = [
            f"{abs(trained - other):.1f} points {'above' if trained >= other else 'below'} {name}"
            for other, name in ((init, first_weights(run.config.get("init.from"))), (raw, "raw pixels"))
        ]
        yield trained < max(init, raw), f"{what} top-1 of {trained:.1f} %: {' and '.join(parts)}."


def alarms(run: Run) -> Iterable[tuple[bool, str]]:
    """Yields the warnings that the watch gives for the recorded metrics."""
    watch = Watch(run.steps)
    warnings = [warning for row in run.rows for warning in watch.look(row["step"], row)]
    warnings += [f"not finite at step {row['step']}" for row in run.rows if None in row.values()][:1]
    yield from ((True, warning) for warning in warnings)
    if not warnings and run.last("projection_std") is not None:
        yield False, "No sign of collapse."


def legend(runs: Sequence[Run]) -> str:
    """Returns the legend of colours; empty for a single run."""
    if len(runs) == 1:
        return ""
    entries = (f"<span>{swatch(runs, index)}{escape(run.name)}</span>" for index, run in enumerate(runs))
    return f'<p class="legend">{"".join(entries)}</p>'


def swatch(runs: Sequence[Run], index: int) -> str:
    return f'<i class="swatch" style="background:{charts.color(index)}"></i>' if len(runs) > 1 else ""


def figures(runs: Sequence[Run]) -> str:
    """Returns a chart for each metric that was measured over time, with the runs overlaid."""
    logged = {name for run in runs for row in run.rows for name in row}
    levels = {metric for level in LEVELS.values() for metric in level.values()}
    extra = sorted(logged - set(TITLES) - levels - {"step"})
    drawn = []
    for metric in [*TITLES, *extra]:
        series = [run.series(metric) for run in runs]
        if max(len(steps) for steps, _ in series) < 2:
            continue
        chart = charts.curves(series, baselines(runs, metric))
        drawn.append(f"<figure><figcaption>{escape(TITLES.get(metric, metric))}</figcaption>{chart}</figure>")
    return f'<div class="charts">{"".join(drawn)}</div>' if drawn else "<p>No metrics yet.</p>"


def baselines(runs: Sequence[Run], metric: str) -> dict[str, float]:
    """Returns the baselines of a metric on which all runs that have them agree."""
    found = {}
    for name, level in LEVELS.get(metric, {}).items():
        values = {round(value, 3) for run in runs if (value := run.last(level)) is not None}
        if len(values) == 1:
            found[name] = values.pop()
    return found


SIZES = {  # columns of evaluations/sizes.json
    "knn_top1": "k-NN top-1 [%]",
    "fixed_bank_top1": "k-NN top-1 [%], bank at data.size",
    "fixed_linear_top1": "Linear top-1 [%], fitted at data.size",
    "fixres_top1": "Linear top-1 [%], fitted at the size (FixRes)",
    "agreement": "Same prediction as at data.size [%]",
    "cosine": "Cosine with the features at data.size",
}


def sizes(runs: Sequence[Run]) -> str:
    """Returns charts and a table of the features at several image sizes; empty if no run has them."""
    tables = [run.evaluations.get("sizes", {}).get("rows", []) for run in runs]
    if not any(tables):
        return ""
    drawn = []
    for name, title in SIZES.items():
        series = [([row["size"] for row in rows], [row[name] for row in rows]) for rows in tables]
        chart = charts.curves(series, label="image size, pixels")
        drawn.append(f"<figure><figcaption>{escape(title)}</figcaption>{chart}</figure>")
    rows = [
        [
            f"{run.name}, {row['size']} px",
            *(f"{row[name]:.1f}" if name != "cosine" else f"{row[name]:.3f}" for name in SIZES),
        ]
        for run, table in zip(runs, tables, strict=True)
        for row in table
    ]
    return f'<div class="charts">{"".join(drawn)}</div>{grid(["", *SIZES.values()], rows)}'


WAYS = {"image to text": "image_to_text", "text to image": "text_to_image"}
RECALLS = (1, 5, 10)


def language(runs: Sequence[Run]) -> str:
    """Returns a table of how well images and texts are matched, each number beside chance; empty if no run has one."""
    names = ["", "zero-shot top-1", *(f"{way}, recall@{k}" for way in WAYS for k in RECALLS)]
    rows = []
    for run in runs:
        shot = run.evaluations.get("zero_shot", {})
        found = run.evaluations.get("image_text_retrieval", {})
        kinds = {"": found} if "images" in found else found
        for kind, result in kinds.items():
            pairs = [(f"{way}_recall{k}", f"{way}_chance{k}") for way in WAYS.values() for k in RECALLS]
            cells = [beside_chance(shot, "top1", "chance"), *(beside_chance(result, *pair) for pair in pairs)]
            rows.append([f"{run.name}, {kind.replace('_', ' ')}" if kind else run.name, *cells])
    return grid(names, rows) + "<p>In percent, and by chance.</p>" if rows else ""


def beside_chance(result: Mapping[str, float], name: str, chance: str) -> str:
    return f"{result[name]:.1f} ({result[chance]:.1f})" if name in result else ABSENT


def pictures(runs: Sequence[Run]) -> dict[str, str]:
    """Returns the pictures of the runs, grouped by title, as inlined images."""
    titles = dict.fromkeys(title for run in runs for title in run.pictures)
    return {
        title: '<div class="pictures">'
        + "".join(
            f"<figure><figcaption>{escape(run.name) if len(runs) > 1 else ''}</figcaption>"
            f'<img alt="{escape(title)}" src="data:image/png;base64,{base64.b64encode(run.pictures[title]).decode()}">'
            "</figure>"
            for run in runs
            if title in run.pictures
        )
        + "</div>"
        for title in titles
    }


def settings(runs: Sequence[Run], tables: Sequence[dict[str, Any]]) -> str:
    """Returns a table of all settings; for several runs, of those that differ, with all of them collapsed below."""
    keys = list(dict.fromkeys(key for table in tables for key in table))
    if not keys:
        return ""
    if len(runs) == 1:
        return grid(["", ""], [[key, tables[0][key]] for key in keys])
    rows = [[key, *(table.get(key, ABSENT) for table in tables)] for key in keys]
    differing = [row for row in rows if any(value != row[1] for value in row[1:])]
    names = ["", *(run.name for run in runs)]
    short = grid(names, differing) if differing else "<p>The same for all.</p>"
    return f"{short}<details><summary>All settings</summary>{grid(names, rows)}</details>"


def grid(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in names)}</tr>" if any(names) else ""
    body = (
        f'<tr><td class="key">{escape(key)}</td>{"".join(f"<td>{escape(value)}</td>" for value in values)}</tr>'
        for key, *values in rows
    )
    return f'<table class="settings">{head}{"".join(body)}</table>'
