"""The HTML page of the report."""

import os
import pathlib
from collections.abc import Mapping, Sequence

from ssl_jax.atomic import replacing
from ssl_jax.errors import UserError
from ssl_jax.report.evaluations import evaluations
from ssl_jax.report.run import Run, load
from ssl_jax.report.sections import (
    escape,
    figures,
    heading,
    health,
    language,
    legend,
    pictures,
    results,
    settings,
    sizes,
)

STYLE = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2937; background: #fff; max-width: 1120px; margin: 2.5rem auto;
  padding: 0 1.5rem }
h1 { font-size: 1.7rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.5rem 0 .8rem }
.sub, figcaption, th, .key { color: #6b7280 } .sub { margin: .2rem 0 1.5rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .9rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e5e7eb }
th { font-weight: 500 } .results th, .results td { text-align: right; padding: .35rem .7rem; white-space: nowrap }
section { overflow-x: auto }
.results th:first-child, .results td:first-child { text-align: left; padding-left: 0 }
.results .group { text-align: center } .results colgroup + colgroup { border-left: 1px solid #e5e7eb }
.trained { font-weight: 650; color: #111827; font-size: 1.1em }
.settings { font-size: .85rem; width: 100% } .settings td { overflow-wrap: anywhere }
.settings td:first-child { width: 17rem }
.say { margin: 1rem 0 0; padding: .6rem .9rem; border-left: 3px solid #2e9e5b; background: #f0f9f3 }
.warn { border-color: #d1495b; background: #fdf2f3 }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 1.2rem 1.6rem }
figure { margin: 0 } figcaption { font-size: .9rem; font-weight: 500; color: #374151; margin-bottom: .2rem }
svg { width: 100%; height: auto } svg text { font-family: system-ui, sans-serif !important }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .45em }
.legend span { margin-right: 1.4rem } img { box-sizing: border-box; max-width: 100%; border: 1px solid #e5e7eb }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(330px, max-content)); gap: 1.2rem 1.6rem }
details { margin-top: 1rem } summary { cursor: pointer; color: #2563a8 }
"""


def write(workdirs: Sequence[str | os.PathLike], out: str | os.PathLike | None = None) -> pathlib.Path:
    """Writes the report of one run, or a comparison of several, as one self-contained file.

    Args:
        workdirs: the workdirs of the runs; only their files are read.
        out: the file to write; None: `report.html` in the first workdir, or `comparison.html` for several runs.

    Returns:
        The path of the file.

    Raises:
        UserError: if a workdir has no run, or the file cannot be written.
    """
    runs = load(workdirs)
    name = "report.html" if len(runs) == 1 else "comparison.html"  # do not overwrite the report of the first run
    path = (pathlib.Path(out) if out else pathlib.Path(workdirs[0]) / name).expanduser()
    try:
        with replacing(path) as part:
            part.write_text(page(runs), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); give another file with --out") from None
    return path


def page(runs: Sequence[Run]) -> str:
    """Returns the HTML of a report."""
    title, subtitle = heading(runs)
    sections = {
        "Results": results(runs) + "".join(health(run, named=len(runs) > 1) for run in runs),
        "Curves": legend(runs) + figures(runs),
        "Evaluations": evaluations(runs),
        "Image sizes": sizes(runs),
        "Images and texts": language(runs),
        **pictures(runs),
        "Config": settings(runs, [run.config for run in runs]),
        "Environment": settings(runs, [run.environment for run in runs]),
    }
    return document(title, subtitle, sections)


def document(title: str, subtitle: str, sections: Mapping[str, str], style: str = STYLE) -> str:
    """Returns the HTML of a self-contained page.

    Args:
        title: of the page, as text.
        subtitle: the line below it, as text.
        sections: heading, as text -> HTML; one that is empty is left out.
        style: CSS.
    """
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{style}</style></head>",
            f'<body><h1>{escape(title)}</h1><p class="sub">{escape(subtitle)}</p>',
            *(f"<section><h2>{escape(name)}</h2>{body}</section>" for name, body in sections.items() if body),
            "</body></html>\n",
        ]
    )
