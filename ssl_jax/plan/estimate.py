"""The roofline: how long a step takes at least, and what a run costs."""

import dataclasses

from ssl_jax.plan.chips import Chip
from ssl_jax.plan.compilation import Facts
from ssl_jax.plan.cost import Collective

FULL = 0.95  # of a chip's memory, as much as a program may fill; the rest is the runtime's


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Times of a step in seconds if each resource worked at its peak, and what follows from the longest."""

    arithmetic: float
    memory: float
    interconnect: float
    binds: str  # which of the three is the longest
    images_per_second: float
    hours: float  # of the run
    chip_hours: float


def estimate(facts: Facts, chip: Chip) -> Estimate:
    """Returns how fast a run could be by the peaks of its chips (Williams et al. 2009, doi:10.1145/1498765.1498785).

    For TPUs that is a bound: nothing reaches its peak, and nothing overlaps fully. For GPUs it is an estimate, since
    the program is one for CPUs, which moves more bytes. The latency of collectives is left out, and that links between
    slices are slower.

    Args:
        facts: of the compiled step.
        chip: of which `facts.chips` run it.
    """
    times = {
        "arithmetic": sum(facts.flops.values()) / (chip.flops * facts.share),
        "memory": sum(facts.bytes.values()) / (chip.bandwidth * facts.share),
        "interconnect": sum(map(sent, facts.collectives)) / (chip.interconnect * facts.share),
    }
    binds = max(times, key=lambda name: times[name])
    hours = times[binds] * facts.steps / 3600
    return Estimate(**times, binds=binds, images_per_second=facts.batch_size / times[binds], hours=hours,
                    chip_hours=hours * facts.chips)  # fmt: skip


def sent(one: Collective) -> float:
    """Returns the bytes that a device sends at least, as rings of n devices do (Patarasuk & Yuan 2009)."""
    share = (one.group - 1) / one.group
    factors = {"all-reduce": 2 * share, "collective-permute": 1.0, "all-gather": share}
    return one.bytes * factors.get(one.kind, share)


def fits(facts: Facts, chip: Chip) -> bool:
    """Returns whether the program fits into the memory of its chips."""
    return bool(facts.flops) and facts.peak <= FULL * chip.memory * facts.share
