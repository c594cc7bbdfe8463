"""The roofline: how long a step takes at least, and what a run costs."""

import dataclasses

from ssl_jax.plan.chips import Chip
from ssl_jax.plan.collectives import sent
from ssl_jax.plan.compilation import Facts

FULL = 0.95  # of a chip's memory, as much as a program may fill; the rest is the runtime's


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Times of a step in seconds if each resource worked at its peak, and what follows from the longest."""

    arithmetic: float
    memory: float
    interconnect: float
    dcn: float  # the network between slices or nodes
    binds: str  # which of these is the longest
    images_per_second: float
    hours: float  # of the run
    chip_hours: float


def estimate(facts: Facts, chip: Chip) -> Estimate:
    """Returns how fast a run could be by the peaks of its chips (Williams et al. 2009, doi:10.1145/1498765.1498785).

    For TPUs that is a bound: nothing reaches its peak, and nothing overlaps fully. For GPUs it is an estimate, since
    the program is one for CPUs, which moves more bytes. The latency of collectives is left out.

    Args:
        facts: of the compiled step.
        chip: of which `facts.chips` run it.
    """
    both = [sent(one) for one in facts.collectives]
    within, between = sum(one.within for one in both), sum(one.between for one in both)
    times = {
        "arithmetic": sum(facts.flops.values()) / (chip.flops * facts.share),
        "memory": sum(facts.bytes.values()) / (chip.bandwidth * facts.share),
        "interconnect": within / (chip.interconnect * facts.share),
        "dcn": between / (chip.dcn * facts.share) if between else 0.0,
    }
    binds = max(times, key=lambda name: times[name])
    hours = times[binds] * facts.steps / 3600
    return Estimate(**times, binds=binds, images_per_second=facts.batch_size / times[binds], hours=hours,
                    chip_hours=hours * facts.chips)  # fmt: skip


def fits(facts: Facts, chip: Chip) -> bool:
    """Returns whether the program fits into the memory of its chips."""
    return bool(facts.flops) and facts.peak <= FULL * chip.memory * facts.share
