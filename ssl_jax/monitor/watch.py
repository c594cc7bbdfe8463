"""Tells when training has gone wrong: numbers that are not finite, and representations that collapse."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ssl_jax.errors import UserError

LOOKS = 5  # in a row, before a sign is believed


class Diverged(UserError):
    """Training met a number that is not finite."""


def check_finite(step: int, metrics: Mapping[str, float]) -> None:
    """Raises `Diverged` with what to try, if any of a step's metrics is infinite or not a number."""
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    if bad:
        raise Diverged(
            f"training diverged at step {step}: {', '.join(bad)} not finite; try a lower learning rate, a longer "
            "warm-up or float32 (the checkpoints of earlier steps are kept; the same command goes on from the last one)"
        )


class Sign(NamedTuple):
    """A sign of collapse: the metrics it reads, when they are suspicious, and what to tell the user."""

    metrics: tuple[str, ...]
    suspicious: Callable[..., bool]
    message: str


SIGNS = {
    "spread": Sign(
        ("projection_crowding", "projection_std"),
        lambda crowding, std: crowding > 0.7,
        "projection_crowding is {0:.3f} (the share of projections close to their mean; projection_std {1:.3f}): most "
        "images have nearly the same projection; lower the learning rate, and check that the target gets no gradient "
        "and that the heads are normalised",
    ),
    "rank": Sign(
        ("rank",),
        lambda rank: rank < 2,
        "the features have an effective rank of {0:.1f}: they vary along one direction only; strengthen the crops and "
        "colour changes, or lower the learning rate and the weight decay",
    ),
    "codes": Sign(
        ("code_entropy",),
        lambda entropy: entropy > 0.99,
        "code_entropy is {0:.3f} of its maximum: every image belongs to all prototypes alike; freeze the prototypes "
        "for longer, lower the temperature of the codes, or lower the learning rate",
    ),
    "clusters": Sign(
        ("cluster_entropy",),
        lambda entropy: entropy < 0.1,
        "cluster_entropy is {0:.3f} of its maximum: all images fall into the same few prototypes; balance the codes "
        "(Sinkhorn iterations, centring), or raise their temperature",
    ),
    "uniform": Sign(
        ("loss", "uniform_loss"),
        lambda loss, uniform: abs(loss - uniform) < 0.005 * abs(uniform),
        "the loss is stuck at {0:.3f}, its value when nothing is distinguished ({1:.3f}): lower the learning rate or "
        "lengthen the warm-up, and check the temperature",
    ),
}


class Watch:
    """Looks at the metrics of a run as they come and says once, per sign of collapse, what it probably is.

    Nothing is believed in the first tenth of the run, nor before it has been seen several times in a row.

    Args:
        total: the last step of the run.
    """

    def __init__(self, total: int):
        self.grace = total // 10
        self.streaks = dict.fromkeys(SIGNS, 0)  # how often in a row each sign was seen; stays, once believed

    def look(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """Returns the warnings that `metrics`, whichever of them were measured at this step, call for."""
        warnings = []
        for name, sign in SIGNS.items():
            values = [metrics.get(metric) for metric in sign.metrics]
            if step < self.grace or None in values or self.streaks[name] == LOOKS:
                continue
            self.streaks[name] = self.streaks[name] + 1 if sign.suspicious(*values) else 0
            if self.streaks[name] == LOOKS:
                warnings.append(f"warning: step {step}, possible collapse: {sign.message.format(*values)}")
        return warnings
