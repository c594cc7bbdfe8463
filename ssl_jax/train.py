"""Trains a run from its latest checkpoint to its end: the loop, and what happens before and after it."""

import pathlib
import time
from typing import Any

import jax

from ssl_jax import parallel, pretrained, preview, report, see
from ssl_jax.checkpoint import Checkpoints
from ssl_jax.evaluate import kept, language
from ssl_jax.evaluate.online import Evaluator
from ssl_jax.monitor import Interruption, Monitor, concluded, summary
from ssl_jax.run import Run
from ssl_jax.trainer import Trainer, TrainState, train_step
from ssl_jax.words import number_of

__all__ = ["TrainState", "Trainer", "train", "train_step"]


def train(run: Run, folder: pathlib.Path, weights: pretrained.Start | None = None) -> None:
    """Trains a run to its end, from its latest checkpoint if there is one.

    Args:
        run: the run.
        folder: its workdir, for metrics, checkpoints, pictures and the report.
        weights: what `init.from` names, if it was read already.

    Raises:
        UserError: if the checkpoint does not fit, or training diverges.
    """
    began = time.monotonic()
    page = folder / "report.html"
    with Checkpoints(folder / "checkpoints", run.config.checkpoint.keep, warn=print) as checkpoints:
        if checkpoints.latest_step() == run.steps and page.exists():
            print(f"finished: {folder} has all of its {number_of(run.steps, 'step')}; report: {page}")
            return
        trainer = Trainer(run, parallel.make_mesh(sizes=run.mesh_sizes))
        step, state = start(trainer, checkpoints, weights)
        evaluator = Evaluator(run, trainer.mesh)
        lost = step > 0 and not (folder / "metrics.jsonl").exists()
        with Monitor(folder, run.config, run.steps, step, began) as monitor:
            if step == 0:
                if jax.process_index() == 0:
                    preview.write(run, folder / "views.png")
                monitor.record(0, kept.baselines(evaluator, state, folder))
            if lost:
                monitor.note(f"warning: {folder / 'metrics.jsonl'} is gone; curves begin at step {step:,}")
                monitor.record(0, kept.known(evaluator, folder))
            with Interruption() as interruption:  # before and after there is nothing to save
                state, features = loop(trainer, state, step, evaluator, monitor, checkpoints, interruption)
            if not concluded(folder, run.steps):  # it may have been killed just before the last evaluation
                conclude(trainer, state, features, evaluator, monitor, folder)
    if jax.process_index() == 0:
        report.write([folder])
        print(*filter(None, (summary(folder, run.config.init["from"]), f"report: {page}")), sep="\n")


def conclude(trainer, state, features, evaluator, monitor, folder) -> None:
    """Evaluates the last state of a run, logs and saves the results, and draws its pictures."""
    features = features or evaluator.extract(state)
    if rows := evaluator.across_sizes(features, state):
        monitor.save("sizes", {"rows": rows})
    matching = evaluator.matching(state)
    for protocol, result in matching.items():
        monitor.save(protocol, result)
    monitor.record(trainer.run.steps, language.scalars(matching))
    see.write(trainer.run, trainer.mesh, state.params, state.state, folder)
    monitor.record(trainer.run.steps, evaluator.conclude(features, folder / "neighbours.png"))


def start(
    trainer: Trainer, checkpoints: Checkpoints, weights: pretrained.Start | None = None
) -> tuple[int, TrainState]:
    """Returns the step and the state to continue from: the latest checkpoint, the weights of `init.from`, or new."""
    restored = checkpoints.restore(trainer.abstract)
    if restored:
        step, state = restored
        how = f"resumes at step {step:,}"
    else:
        step, (state, how) = 0, new_state(trainer, weights)
    if jax.process_index() == 0:
        print(how)
    return step, state


def new_state(trainer: Trainer, weights: pretrained.Start | None = None) -> tuple[TrainState, str]:
    """Returns the state of step 0, with the weights of `init.from` if it is set, and one line to print."""
    run, state = trainer.run, trainer.init()
    return pretrained.start_from(run, state, weights) if run.config.init["from"] else (state, "starts anew")


def loop(trainer, state, start, evaluator, monitor, checkpoints, interruption) -> tuple[TrainState, Any]:
    """Takes the steps after `start`, and logs, evaluates and saves when due.

    Returns:
        The last state, and the features that the evaluator extracted from it; None if there was no step to take.

    Raises:
        KeyboardInterrupt: after Ctrl-C, when all processes have saved the same step.
        SystemExit: after another request to stop, alike.
    """
    run = trainer.run
    batches = trainer.batches(start)
    pending = None  # the metrics of the previous step, fetched while the device computes the next
    asked = False  # whether some process was asked to stop at the previous step
    features = None
    for step in range(start + 1, run.steps + 1):
        batch = next(batches)
        with jax.transfer_guard("disallow"):
            state, metrics = trainer.step(state, batch, step - 1)
        if pending:
            monitor.see(*pending)
        pending = step, metrics
        stop, asked = bool(asked), parallel.any_process(trainer.mesh, interruption.requested)
        evaluate, save = run.evaluate_at(step), run.save_at(step) or stop
        if evaluate or save:  # checks that the state is finite before it is saved
            monitor.see(*pending)
            monitor.check(step, {"parameters": jax.device_get(trainer.largest(state.params))})
            pending = None
        features = evaluator.extract(state) if evaluate else None  # only the last are kept
        measured = evaluator.measure(features, state.probe) if evaluate else {}
        if measured:
            monitor.record(step, measured)
        if save:
            monitor.sync()  # a checkpoint that is there has its metrics
            checkpoints.save(step, state, measured)
        if stop or step == run.steps:
            checkpoints.wait()
            if stop or parallel.any_process(trainer.mesh, interruption.requested):
                cause = interruption.cause or "a request to another process"
                monitor.note(f"stopped at step {step:,} by {cause}, everything is saved; the same command resumes")
                interruption.stop()
    return state, features
