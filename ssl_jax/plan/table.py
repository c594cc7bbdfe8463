"""Plans as text: one column for each topology, and what would make a run fit."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from ssl_jax.plan.chips import Chip, gib
from ssl_jax.plan.collectives import sent
from ssl_jax.plan.compilation import Facts
from ssl_jax.plan.estimate import FULL, Estimate, fits
from ssl_jax.plan.parts import PARTS

LEAST = 0.01  # share of all bytes of collectives below which a kind and origin has no row of its own


class Plan(NamedTuple):
    """A config on one topology."""

    name: str  # of the config
    config: ConfigDict
    facts: Facts
    chip: Chip | None
    estimate: Estimate | None  # None: without peaks, or if it was not compiled


def table(plans: Sequence[Plan]) -> str:
    """Returns the rows of several plans, a column for each."""
    columns = [column(plan) for plan in plans]
    labels = list(dict.fromkeys(label for one in columns for label in one))
    cells = [["", *(plan.facts.topology for plan in plans)]]
    cells += [[label, *(one.get(label, "-") for one in columns)] for label in labels]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells]
    return "\n".join(lines)


def column(plan: Plan) -> dict[str, str]:
    """Returns the cells of a plan by their labels."""
    facts, chip = plan.facts, plan.chip
    capacity = chip.memory * facts.share if chip else None
    cells = {
        "chips": f"{facts.chips:,}",
        "images per step": f"{facts.batch_size:,}",
        "steps": f"{facts.steps:,}",
        "parameters, million": f"{facts.parameters / 1e6:.2f}",
    }
    if facts.flops:
        cells |= {
            "arguments, GiB": gib(facts.arguments),
            "temporaries, GiB": gib(facts.temporaries),
        }
    cells["peak, GiB per device"] = gib(facts.peak) if facts.peak else "too much"
    if capacity:
        cells |= {"memory, GiB per device": gib(capacity), "fits": "yes" if fits(facts, chip) else "no"}
    if facts.flops:
        cells |= costs(facts)
    return cells | (times(plan.estimate) if plan.estimate else {})


def costs(facts: Facts) -> dict[str, str]:
    """Returns the cells of what a step costs."""
    images = facts.batch_size / facts.devices
    flops, moved = sum(facts.flops.values()), sum(facts.bytes.values())
    cells = {
        "donated arrays reused": f"{facts.aliased} of {facts.donated}",
        "GFLOP per image": f"{flops / images / 1e9:.4g}",
        "MB moved per image": f"{moved / images / 1e6:.4g}",
    }
    for part in PARTS:
        shares = 100 * facts.flops[part] / max(flops, 1), 100 * facts.bytes[part] / max(moved, 1)
        cells[f"  {part}, % of FLOP | MB"] = "{:.1f} | {:.1f}".format(*shares)
    total = sum(one.bytes for one in facts.collectives)
    rows: dict[str, tuple[int, int, float]] = {}
    for one in facts.collectives:
        name = f"{one.kind}, {one.origin}" if one.bytes >= LEAST * total else "other collectives"
        old = rows.get(name, (0, 0, 0))
        rows[name] = old[0] + one.number, old[1] + one.bytes, old[2] + sent(one).between
    for name, (count, size, between) in rows.items():
        cells[f"{name}: number | MB"] = f"{count} | {size / 1e6:.3g}"
        if between:
            cells[f"{name}: MB sent between slices"] = f"{between / 1e6:.3g}"
    return cells


def times(estimate: Estimate) -> dict[str, str]:
    """Returns the cells of how long it takes."""
    resources = ["arithmetic", "memory", "interconnect", *(["dcn"] if estimate.dcn else [])]
    cells = {f"{name}, ms per step": f"{1e3 * getattr(estimate, name):.3g}" for name in resources}
    return cells | {
        "bound by": estimate.binds,
        "images/s at these peaks": f"{estimate.images_per_second:,.0f}",
        "hours": f"{estimate.hours:,.1f}",
        "chip-hours": f"{estimate.chip_hours:,.0f}",
    }


def trust(plan: Plan) -> list[str]:
    """Returns lines that say how far a plan may be from what a run takes."""
    if plan.estimate is None or plan.chip is None:
        return []
    name = plan.facts.topology
    if plan.chip.is_tpu:
        lines = [f"{name}: times are a bound, by the TPU's own program at its peaks; no run was measured against it"]
    else:
        lines = [
            f"{name}: times are an estimate, by a program for CPUs, in which fewer operations are fused; on an H200, "
            "three runs had 0.64, 0.92 and 1.23 times the images/s of their plans, see docs/benchmarks.md"
        ]
    if number := sum(one.number for one in plan.facts.collectives if one.slices > 1):
        lines.append(f"{name}: a step sends {number} times between slices; the latency of that is not in these times")
    return lines


def advice(plan: Plan) -> list[str]:
    """Returns lines that say that a plan does not fit, and which changes of the config may make it fit."""
    facts, chip, config = plan.facts, plan.chip, plan.config
    if chip is None or fits(facts, chip):
        return []
    room = FULL * chip.memory * facts.share
    need = f"needs {gib(facts.peak)} GiB" if facts.peak else "needs more"
    lines = [f"{plan.name} {need} of the {gib(room)} GiB that a device of {facts.topology} has for it; what may help:"]
    if config.network.dtype != "bfloat16":
        lines.append("--config.network.dtype=bfloat16    half the memory of activations")
    if not config.network.remat:
        lines.append("--config.network.remat=true    activations are computed again, a third more arithmetic")
    changing = max(facts.peak - facts.arguments, 1)
    left = room - facts.arguments
    rows = facts.batch_size // facts.devices
    if facts.peak and left > 0:
        pieces = next((n for n in range(2, rows + 1) if rows % n == 0 and changing / n < left), None)
        if pieces and (config.network.chunks or 1) == 1:
            lines.append(
                f"--config.network.chunks={pieces}    parts of the batch in turn, each with own BatchNorm statistics"
            )
        if fewer := int(rows * left / changing) * facts.devices:
            lines.append(f"--config.batch_size={fewer}    fewer images per device")
        lines.append(f"a topology of {facts.chips * 2 ** math.ceil(math.log2(changing / left))} chips    likewise")
    if facts.arguments > room / 4:
        lines.append("--config.mesh.fsdp=N    the state is split over N devices instead of copied")
    return [lines[0], *(f"  {line}" for line in lines[1:])]
