"""`plans.json` and `plans.md` in a folder: a row for each config and topology, added one by one."""

import json
import pathlib
from collections.abc import Mapping, Sequence

from ssl_jax.errors import UserError
from ssl_jax.plan.chips import gib

FILE = "plans.json"
HEAD = """# Plans

What a run costs by the program that XLA compiles for it, before any device is there; see "Plan before you pay" in the
README. Times are what the program needs at the peaks of the chips: a bound for a TPU, whose own program it is, while a
GPU, planned by a program for CPUs, may be faster or slower (0.64 to 1.23 times, see docs/benchmarks.md). Made by

    python -m ssl_jax.plan --all --topology=v5e:8x8 --out=docs

which compiles what is not here yet and goes on where it was stopped (CRD, which learns from a run, is not here), and by
the same command with `--config` for single rows, such as those of Table 3 of MoCo v2 on eight chips, and two slices:

    python -m ssl_jax.plan --config=moco_v2:imagenet --topology=v5e:2x4 --out=docs
    python -m ssl_jax.plan --config=simclr:imagenet --config.batch_size=256 --topology=v5e:2x4 --out=docs
    python -m ssl_jax.plan --config=simclr:imagenet --config.batch_size=4096 --topology=v5e:2x4 --out=docs
    python -m ssl_jax.plan --config=byol:imagenet --config.mesh.dcn=2 --topology=2xv5e:4x8 --out=docs

- batch: images of a step, on all devices.
- parameters: those that are trained, in millions.
- peak: memory that a device needs, without the code of the program. XLA compiles no program that does not fit its
  device, so that no more is known of it.
- GFLOP, MB: arithmetic, and memory read and written, for an image with all its views, forward and backward.
- augmentation: its shares of these two.
- bound by: what takes longest at the peaks of the chips: arithmetic, memory, interconnect, or dcn, the network between
  slices.
- images/s: of all devices. hours: of the whole run; chip-hours: these times the chips.
"""
COLUMNS = (
    "config | batch | parameters, M | peak, GiB | fits | GFLOP per image | MB per image | augmentation, % | bound by | "
    "images/s | hours | chip-hours"
)


def rows(folder: pathlib.Path) -> list[Mapping]:
    """Returns the rows that are already there.

    Raises:
        UserError: if the file cannot be read.
    """
    file = folder / FILE
    try:
        return json.loads(file.read_text()) if file.exists() else []
    except ValueError as error:
        raise UserError(f"{file} is not JSON ({error}); remove it, or name another folder with --out") from None


def has(known: Sequence[Mapping], name: str, topology: str, recipe: str) -> bool:
    """Returns whether there is a row of this config on this topology, for the same recipe, see `plans.as_json`."""
    return (name, topology, recipe) in [(*key(row), row["recipe"]) for row in known]


def key(row: Mapping) -> tuple[str, str]:
    return row["config"], row["topology"]


def add(folder: pathlib.Path, row: Mapping) -> None:
    """Adds a row, in place of an older one of the same config and topology, and writes the page anew."""
    kept = [one for one in rows(folder) if key(one) != key(row)]
    ordered = sorted([*kept, row], key=key)
    (folder / FILE).write_text(json.dumps(ordered, indent=1) + "\n")
    (folder / "plans.md").write_text(markdown(ordered))


def markdown(found: Sequence[Mapping]) -> str:
    """Returns the page: a table for each topology."""
    text = HEAD
    for topology in dict.fromkeys(sorted(row["topology"] for row in found)):
        own = [row for row in found if row["topology"] == topology]
        text += f"\n## {topology}, {own[0]['chips']:,} chips\n\n| {COLUMNS} |\n|{'---|' * (COLUMNS.count('|') + 1)}\n"
        text += "".join(map(line, own))
    return text


def line(row: Mapping) -> str:
    """Returns the line of a row."""
    cells = [row["config"], f"{row['batch_size']:,}", f"{row['parameters'] / 1e6:.1f}"]
    cells += [gib(row["peak"]) if row["peak"] else "-", {True: "yes", False: "no", None: "-"}[row.get("fits")]]
    if row["flops"]:
        images = row["batch_size"] / row["devices"]
        flops, moved = (sum(row[what].values()) for what in ("flops", "bytes"))
        shares = (100 * row[what]["augmentation"] / total for what, total in (("flops", flops), ("bytes", moved)))
        cells += [rounded(flops / images / 1e9), rounded(moved / images / 1e6), "{:.1f}, {:.1f}".format(*shares)]
    if bound := row.get("estimate"):
        cells += [bound["binds"], f"{bound['images_per_second']:,.0f}", f"{bound['hours']:.1f}"]
        cells += [f"{bound['chip_hours']:,.0f}"]
    cells += ["-"] * (COLUMNS.count("|") + 1 - len(cells))
    return f"| {' | '.join(cells)} |\n"


def rounded(value: float) -> str:
    """Returns a number of three digits, as in "0.0123" or "2,340"."""
    return f"{float(f'{value:.3g}'):,g}"
