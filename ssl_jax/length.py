"""How long a run is: minutes turned into steps, what is longer, and what may change after it has begun."""

import collections
import dataclasses
import functools
import itertools
import pathlib
import time
from collections.abc import Callable

import jax
import numpy as np

from ssl_jax import checkpoint, data, parallel, schema
from ssl_jax.build import build, count_steps
from ssl_jax.errors import UserError
from ssl_jax.method import Batch
from ssl_jax.run import Run
from ssl_jax.trainer import Trainer
from ssl_jax.words import number_of
from ssl_jax.workdir import read_config, shapes_run

ENOUGH = 5.0  # seconds to measure for, or more


def fix(run: Run) -> Run:
    """Returns a run of as many steps as fit into its `minutes` at the speed of this machine.

    They are in its config from now on, so it is measured once. A run without minutes, or with steps, stays as it is.
    """
    minutes = run.config.minutes
    if minutes is None or run.config.steps is not None:
        return run
    seconds = seconds_per_step(run)
    steps = run.config.steps = max(1, int(60 * minutes / seconds))
    if jax.process_index() == 0:
        print(
            f"in {minutes:g} min there are {number_of(steps, 'step')} or {steps / run.steps_per_epoch:.1f} epochs, at "
            f"{run.batch_size / seconds:,.0f} images/s; evaluation comes on top"
        )
    return dataclasses.replace(build(run.config, run.source, run.test), canvas=run.canvas, labelled=run.labelled)


def seconds_per_step(run: Run) -> float:
    """Measures how long a step takes once it is compiled, on average over the sizes of the run."""
    trainer = Trainer(run, parallel.make_mesh(sizes=run.mesh_sizes))
    dataset = stand_in(trainer)
    batches = itertools.chain.from_iterable(trainer.batches(0) for _ in itertools.count())
    state = trainer.init()

    def advance(number: int, count: int) -> float:
        nonlocal state
        began = time.monotonic()
        for _ in range(count):
            state, _ = trainer.advance(number, state, next(batches), dataset, trainer.key)
        jax.block_until_ready(state)
        return float(np.max(parallel.gather(np.array([time.monotonic() - began]))))  # the same in every process

    def measure(number: int) -> float:
        advance(number, 2)  # compiles, and fills what reads ahead
        return seconds_each(functools.partial(advance, number), ENOUGH)

    shares = collections.Counter(map(run.recipe_at, range(run.steps)))
    return sum(measure(number) * share for number, share in shares.items()) / run.steps


def seconds_each(advance: Callable[[int], float], enough: float) -> float:
    """Returns how long a step takes, from twice as many again and again until they take long enough.

    Args:
        advance: takes a number of steps, and returns the seconds that they took.
        enough: seconds.
    """
    took = ((count, advance(count)) for count in (2**i for i in itertools.count()))
    return next(seconds / count for count, seconds in took if seconds >= enough)


def stand_in(trainer: Trainer) -> Batch | None:
    """Returns a set as large as `trainer.dataset`, made of one batch of it, which is quicker to read."""
    if not trainer.resident:
        return None
    run = trainer.run
    few = data.pack(data.read(run.source, run.order(0), run.canvas))
    return parallel.replicate(
        trainer.mesh, {name: np.resize(array, (len(run.source), *array.shape[1:])) for name, array in few.items()}
    )


def outlasting(run: Run) -> str | None:
    """Returns a line about the durations that are longer than the run, such as a warm-up; None if there are none.

    They are no error: a trial of a recipe is shorter than what the recipe was made for.
    """
    longer = [
        f"{key} ({duration})"
        for key, duration in schema.durations(run.config)
        if shapes_run(key) and run.to_steps(duration) > run.steps  # what is done every so often is done at the end too
    ]
    if not longer:
        return None
    return (
        f"note: the run ends after {number_of(run.steps, 'step')}, before the end of {', '.join(longer)}; fine for a "
        "trial, else train longer or lower these"
    )


def check(run: Run, workdir: pathlib.Path) -> str | None:
    """Checks the steps of a run against those it had in its workdir so far: only a finished run can become longer.

    Returns:
        What that means, in a line to print; None if the run is as long as before, or has no checkpoint yet.

    Raises:
        UserError: if it can have no other steps.
    """
    taken = max(checkpoint.steps(workdir / "checkpoints"), default=0)
    if not taken:
        return None
    stored = schema.complete(read_config(workdir))
    steps, _ = count_steps(stored, len(run.source))
    if steps == run.steps:
        return None
    if taken == steps < run.steps:
        return (
            f"extends the run from {steps:,} to {number_of(run.steps, 'step')}: its schedules now end there, so the "
            f"learning rate goes on at {float(run.learning_rate(steps)):.3g}"
        )
    raise UserError(
        f"the run in {workdir} has {number_of(steps, 'step')}, {taken:,} of them taken, and would now have "
        f"{run.steps:,}; only a finished run can become longer: set steps={steps}, or start another run from its "
        f"weights, with --config.init.from={workdir} and another --workdir"
    )
