"""What moves in time: durations in steps, and schedules that map a step to a value."""

import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError, nearest

Schedule = Callable[[Any], jax.Array]  # step, an int or a traced array of any shape -> value of that shape


def duration(value: int | str, steps_per_epoch: int, batch_size: int) -> int:
    """Turns a duration into steps.

    Args:
      value: a number of steps, or a text: "10 epochs", "0.5 epochs", "313 steps", "40000 examples".
      steps_per_epoch: whole batches in the training set.
      batch_size: examples in a global batch.

    Returns:
      Whole steps, rounded down.

    Raises:
      UserError: the value is none of these.
    """
    text = re.fullmatch(r"(\d+(?:\.\d+)?)(?: *(epoch|step|example)s?)?", str(value))
    if not text:
        raise UserError(f"{value!r} is no duration: write '10 epochs', '313 steps', '40000 examples' or steps")
    number, unit = text.groups(default="step")
    length = {"epoch": Fraction(steps_per_epoch), "step": Fraction(1), "example": Fraction(1, batch_size)}
    return int(Fraction(number) * length[unit])


def constant(value: float) -> Schedule:
    """The same value at every step."""
    return lambda step: jnp.full(jnp.shape(step), value, float)


def linear(start: float, end: float | jax.Array, steps: float, begin: float = 0) -> Schedule:
    """Straight from `start` at step `begin` to `end` at step `begin + steps`; constant outside."""
    return lambda step: start + (end - start) * progress(step, steps, begin)


def cosine(start: float, end: float, steps: float, begin: float = 0) -> Schedule:
    """Half a cosine from `start` at step `begin` to `end` at step `begin + steps`; constant outside.

    With 0.996 and 1 this is the decay of BYOL's target (Grill et al. 2020, arXiv:2006.07733, section 3.3).
    """
    return lambda step: end + (start - end) * (1 + jnp.cos(jnp.pi * progress(step, steps, begin))) / 2


def progress(step, steps: float, begin: float) -> jax.Array:
    """The fraction in [0, 1] of `steps` that has passed since `begin`."""
    return jnp.clip((jnp.asarray(step, float) - begin) / max(steps, 1), 0, 1)


def milestones(value: float, steps: Sequence[int], factor: float) -> Schedule:
    """`value`, multiplied by `factor` at each of the given steps."""

    def at(step):
        passed = sum(((jnp.asarray(step) >= one).astype(float) for one in steps), start=jnp.zeros(jnp.shape(step)))
        return value * factor**passed

    return at


def join(first: Schedule, second: Schedule, at: float) -> Schedule:
    """`first` before step `at`, `second` from then on; both see the true step."""
    return lambda step: jnp.where(jnp.asarray(step) < at, first(step), second(step))


def warmup(schedule: Schedule, steps: int, start: float = 0.0) -> Schedule:
    """Straight from `start` at step 0 to what the schedule says at step `steps`, then the schedule."""
    return join(lambda step: linear(start, schedule(steps), steps)(step), schedule, steps)


def per_epoch(schedule: Schedule, steps_per_epoch: int) -> Schedule:
    """The schedule, moved once an epoch: every step has the value of its epoch's first."""
    return lambda step: schedule(jnp.asarray(step) // steps_per_epoch * steps_per_epoch)


SHAPES = {"cosine": cosine, "linear": linear}


def build(spec: float | Mapping[str, Any], steps: int, to_steps: Callable[[int | str], int]) -> Schedule:
    """Turns what a config says of a value that moves in time into a schedule.

    Args:
      spec: a number; or `schedule`, a name in `SHAPES`, with its `start`, its `end` and, where it ends before the run
        does, its `duration`: `{"schedule": "cosine", "start": 0.996, "end": 1.0}`.
      steps: of the whole run.
      to_steps: turns a duration into steps.

    Returns:
      A function of the step.

    Raises:
      UserError: an unknown or a missing key, or an unknown shape.
    """
    if isinstance(spec, int | float):
        return constant(spec)
    spec = {"duration": steps, **spec}
    if spec.keys() != {"schedule", "start", "end", "duration"}:
        raise UserError(f"a schedule has the keys schedule, start, end and duration, not {', '.join(sorted(spec))}")
    if spec["schedule"] not in SHAPES:
        raise UserError(f"unknown schedule {spec['schedule']!r}: {nearest(spec['schedule'], SHAPES)}")
    return SHAPES[spec["schedule"]](spec["start"], spec["end"], to_steps(spec["duration"]))
