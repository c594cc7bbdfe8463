"""Detects failures of training: numbers that are not finite, and representations that collapse."""

import math
import pathlib
import shlex
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ssl_jax.errors import UserError

LOOKS = 5  # consecutive occurrences before a sign is reported


class Diverged(UserError):
    """Raised when a metric is not finite."""


def check_finite(step: int, metrics: Mapping[str, float], workdir: pathlib.Path) -> None:
    """Checks the metrics of a step of the run in a workdir.

    Raises:
        Diverged: if one is infinite or NaN; the message says what to try.
    """
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    if bad:
        raise Diverged(
            f"training diverged at step {step}: {', '.join(bad)} not finite; try a lower learning rate, a longer "
            f"warm-up or float32 (python -m ssl_jax.replay --workdir={shlex.quote(str(workdir))} names the operation; "
            "the checkpoints of earlier steps are kept, and the same command resumes from the last one)"
        )


class Sign(NamedTuple):
    """A sign of collapse: the metrics it reads, when they are suspicious, and the warning to print."""

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
    "uniform targets": Sign(
        ("target_entropy",),
        lambda entropy: entropy > 0.99,
        "uniform targets, target_entropy is {0:.3f} of its maximum: every image belongs to all prototypes alike; "
        "sharpen the targets (lower the temperature of the teacher or of the codes), freeze the prototypes for longer, "
        "or lower the learning rate",
    ),
    "one-dimensional targets": Sign(
        ("marginal_entropy",),
        lambda entropy: entropy < 0.1,
        "one-dimensional targets, marginal_entropy is {0:.3f} of its maximum: all images belong to the same few "
        "prototypes; balance the targets (centring, Sinkhorn iterations), or raise their temperature",
    ),
    "uniform": Sign(
        ("loss", "uniform_loss"),
        lambda loss, uniform: abs(loss - uniform) < 0.005 * abs(uniform),
        "the loss is stuck at {0:.3f}, its value for a collapsed representation ({1:.3f}): lower the learning rate or "
        "lengthen the warm-up, and check the temperature",
    ),
}


class Watch:
    """Watches the metrics of a run for signs of collapse, and warns once per sign.

    A sign is reported only after the first tenth of the run, and only if it occurs several times in a row.

    Args:
        total: the last step of the run.
    """

    def __init__(self, total: int):
        self.grace = total // 10
        self.streaks = dict.fromkeys(
            SIGNS, 0
        )  # consecutive occurrences of each sign; no longer changes once it is reported

    def look(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """Returns the warnings that are due at a step, given the metrics measured there."""
        warnings = []
        for name, sign in SIGNS.items():
            values = [metrics.get(metric) for metric in sign.metrics]
            if step < self.grace or None in values or self.streaks[name] == LOOKS:
                continue
            self.streaks[name] = self.streaks[name] + 1 if sign.suspicious(*values) else 0
            if self.streaks[name] == LOOKS:
                warnings.append(f"warning: step {step}, possible collapse: {sign.message.format(*values)}")
        return warnings
