"""Durations in steps, and schedules that map a step to a value."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError, suggest

Schedule = Callable[[Any], jax.Array]  # step, an int or a traced array of any shape -> value of that shape


DURATION = re.compile(r"(\d+(?:\.\d+)?) *(epoch)s?|(\d+)(?: *(step|example)s?)?")  # parts of an epoch, of a step none


def is_duration(value: Any) -> bool:
    """Returns whether a value has the form that `duration` takes."""
    return DURATION.fullmatch(str(value)) is not None


def duration(value: int | str, steps_per_epoch: int, batch_size: int) -> int:
    """Converts a duration to steps.

    Args:
        value: a number of steps, or text: "10 epochs", "0.5 epochs", "313 steps", "40000 examples".
        steps_per_epoch: the number of whole batches in the training set.
        batch_size: the number of examples in a global batch.

    Returns:
        Whole steps, rounded down.

    Raises:
        UserError: if the value has another form.
    """
    text = DURATION.fullmatch(str(value))
    if not text:
        raise UserError(
            f"{value!r} is not a duration; write '10 epochs', '313 steps', '40000 examples' or a number of steps"
        )
    number, unit = text[1] or text[3], text[2] or text[4] or "step"
    length = {"epoch": Fraction(steps_per_epoch), "step": Fraction(1), "example": Fraction(1, batch_size)}
    return int(Fraction(number) * length[unit])


def constant(value: float) -> Schedule:
    """Returns a schedule with the same value at every step."""
    return lambda step: jnp.full(jnp.shape(step), value, float)


def linear(start: float, end: float | jax.Array, steps: float, begin: float = 0) -> Schedule:
    """Returns a schedule that is linear from `start` at step `begin` to `end` at `begin + steps`, else constant."""
    return lambda step: start + (end - start) * progress(step, steps, begin)


def cosine(start: float, end: float, steps: float, begin: float = 0) -> Schedule:
    """Returns a half cosine from `start` at step `begin` to `end` at step `begin + steps`, and constant outside.

    With 0.996 and 1 this is the decay of BYOL's target (Grill et al. 2020, arXiv:2006.07733, section 3.3).
    """
    return lambda step: end + (start - end) * (1 + jnp.cos(jnp.pi * progress(step, steps, begin))) / 2


def progress(step, steps: float, begin: float) -> jax.Array:
    """Returns the fraction in [0, 1] of `steps` that have passed since `begin`."""
    return jnp.clip((jnp.asarray(step, float) - begin) / max(steps, 1), 0, 1)


def milestones(value: float, steps: Sequence[int], factor: float) -> Schedule:
    """Returns a schedule that starts at `value` and is multiplied by `factor` at each of the given steps."""

    def at(step):
        passed = sum(((jnp.asarray(step) >= one).astype(float) for one in steps), start=jnp.zeros(jnp.shape(step)))
        return value * factor**passed

    return at


def join(first: Schedule, second: Schedule, at: float) -> Schedule:
    """Returns `first` before step `at` and `second` from then on; both get the global step."""
    return lambda step: jnp.where(jnp.asarray(step) < at, first(step), second(step))


def warmup(schedule: Schedule, steps: int, start: float = 0.0) -> Schedule:
    """Returns a schedule with a linear warm-up from `start` at step 0 to its own value at step `steps`."""
    return join(lambda step: linear(start, schedule(steps), steps)(step), schedule, steps)


def per_epoch(schedule: Schedule, steps_per_epoch: int) -> Schedule:
    """Returns a schedule that changes once per epoch: each step has the value of the first step of its epoch."""
    return lambda step: schedule(jnp.asarray(step) // steps_per_epoch * steps_per_epoch)


SHAPES = {"cosine": cosine, "linear": linear}


def build(spec: float | Mapping[str, Any], steps: int, to_steps: Callable[[int | str], int]) -> Schedule:
    """Builds a schedule from its description in a config.

    Args:
        spec: a number, or a dict with `schedule`, a name in `SHAPES`, `start`, `end` and, if it ends before the run,
            `duration`: `{"schedule": "cosine", "start": 0.996, "end": 1.0}`.
        steps: the steps of the whole run.
        to_steps: converts a duration to steps.

    Returns:
        A function of the step.

    Raises:
        UserError: if a key is unknown or missing, or the schedule is unknown.
    """
    if isinstance(spec, int | float):
        return constant(spec)
    spec = {"duration": steps, **spec}
    if spec.keys() != {"schedule", "start", "end", "duration"}:
        raise UserError(f"a schedule has the keys schedule, start, end and duration, not {', '.join(sorted(spec))}")
    if spec["schedule"] not in SHAPES:
        raise UserError(f"unknown schedule {spec['schedule']!r}; {suggest(spec['schedule'], SHAPES)}")
    if not (math.isfinite(spec["start"]) and math.isfinite(spec["end"])):
        raise UserError(f"a schedule goes from one number to another, not from {spec['start']} to {spec['end']}")
    return SHAPES[spec["schedule"]](spec["start"], spec["end"], to_steps(spec["duration"]))
