"""Draws curves of metrics over steps as inline SVG."""

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

COLORS = ["#2563a8", "#d9792b", "#2e9e5b", "#b0457b", "#6b5bb5", "#8a6d3b", "#3aa6b9", "#7a7a7a"]
GREY, RULE = "#6b7280", "#e5e7eb"
STYLE: Any = {
    "svg.fonttype": "none",  # keep text as text: small, searchable, in the font of the page
    "svg.hashsalt": "ssl_jax",  # reproducible ids: the same data give the same file
    "axes.edgecolor": RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "font.size": 9,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "text.color": GREY,
    "axes.formatter.useoffset": False,
}


def color(index: int) -> str:
    """Returns the colour of the i-th run."""
    return COLORS[index % len(COLORS)]


def curves(
    series: Sequence[tuple[list[int], list[float]]], levels: Mapping[str, float] | None = None, label: str = "step"
) -> str:
    """Draws a metric of several runs over the steps.

    Args:
        series: the steps and values of each run, in the order of the colours; empty for a run without the metric.
        levels: name -> value to compare with, drawn as a horizontal line.
        label: of the horizontal axis.

    Returns:
        An `<svg>` element.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 2.5), layout="constrained")
        axes = figure.add_subplot()
        for index, (steps, values) in enumerate(series):
            dot = "o" if len(steps) <= 20 else ""
            axes.plot(steps, values, color=color(index), linewidth=1.4, marker=dot, markersize=3)
        ranked = sorted((levels or {}).items(), key=lambda level: level[1])
        for (name, level), (x, y) in zip(ranked, itertools.cycle([("right", "top"), ("left", "bottom")]), strict=False):
            axes.axhline(level, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
            text = f" {name} {level:.4g} "
            spot, shift = (float(x == "right"), level), (0, -2 if y == "top" else 1)  # fraction and value; points
            where: Any = {"xycoords": ("axes fraction", "data"), "xytext": shift, "textcoords": "offset points"}
            axes.annotate(text, spot, **where, ha=x, va=y, fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.tick_params(length=0)
        axes.set_xlabel(label, color=GREY)
        return svg(figure)


def svg(figure: Figure) -> str:
    """Returns a figure as an `<svg>` element, without the XML preamble."""
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata=dict.fromkeys(["Creator", "Date", "Format", "Type"]))
    text = buffer.getvalue()
    return text[text.index("<svg") :]
