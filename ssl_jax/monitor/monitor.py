"""Progress line, metric files and warnings of a running job."""

import json
import math
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax

from ssl_jax.monitor import writers
from ssl_jax.monitor.environment import environment
from ssl_jax.monitor.progress import Progress
from ssl_jax.monitor.watch import Diverged, Watch, check_finite
from ssl_jax.monitor.writers import Writers, read

NONFINITE = "nonfinite.json"  # the step that was not finite, for `ssl_jax.replay`


class Monitor:
    """Shows, writes and checks the metrics of each step; only the first process prints and writes.

    Args:
        workdir: the workdir of the run.
        config: the config of the run.
        steps: the steps of the whole run.
        start: the step that the run continues from.
        began: `time.monotonic()` at the start of the command, to print the time until the first step.
    """

    def __init__(self, workdir: pathlib.Path, config: Any, steps: int, start: int, began: float):
        self.workdir = workdir
        self.every, self.seed, self.began, self.start = config.log.every, config.seed, began, start
        self.progress = Progress(steps, config.batch_size)
        self.watch = Watch(steps)
        self.writers = None
        if jax.process_index() == 0:
            (workdir / "environment.json").write_text(json.dumps(environment(), indent=1))
            self.writers = Writers(workdir, start or None, config.to_dict(), config.log.wandb)

    def see(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Fetches and shows the metrics of a step, and writes them every `log.every` steps.

        Raises:
            Diverged: if one is not finite.
        """
        values = jax.device_get(metrics)
        self.check(step, values)
        if not self.writers:
            return
        if step == self.start + 1:
            self.note(f"first step after {time.monotonic() - self.began:.1f} s")
        self.progress.update(step, values)
        if step % self.every == 0:
            speed = self.progress.images_per_second
            self.record(step, values | ({"images_per_second": speed} if speed else {}))

    def check(self, step: int, values: Mapping[str, float]) -> None:
        """Checks that numbers are finite; if they are not, it writes down what `ssl_jax.replay` needs.

        Raises:
            Diverged: if one is not.
        """
        try:
            check_finite(step, values, self.workdir)
        except Diverged:
            if self.writers:
                bad = {name: str(value) for name, value in values.items() if not math.isfinite(value)}
                about = {"step": step, "seed": self.seed, "devices": jax.device_count(), "values": bad}
                (self.workdir / NONFINITE).write_text(json.dumps(about, indent=1))
            raise

    def record(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes metrics, and warns if they show a collapse."""
        if self.writers and metrics:
            self.writers.write(step, metrics)
            if step > self.start:  # otherwise the speed would include the time until the first step
                self.progress.update(step, metrics)
            for warning in self.watch.look(step, metrics):
                self.note(warning)

    def sync(self) -> None:
        """Puts the metrics so far on disk, see `Writers.sync`."""
        if self.writers:
            self.writers.sync()

    def save(self, protocol: str, result: Mapping[str, Any]) -> None:
        """Writes the result of an evaluation protocol to evaluations/PROTOCOL.json."""
        if self.writers:
            writers.save(self.workdir, protocol, result)

    def note(self, text: str) -> None:
        """Prints a line above the progress line."""
        if self.writers:
            self.progress.note(text)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.writers:
            self.progress.close()
            self.writers.close()


def first_weights(source: str | None) -> str:
    """Returns the name of the weights at step 0 in tables, given the run's `init.from`."""
    return "starting weights" if source else "random initialisation"


def concluded(workdir: pathlib.Path, step: int) -> bool:
    """Returns whether a run with labels has its last evaluation at a step."""
    return any(row["step"] == step and "linear_top1" in row for row in read(workdir / "metrics.jsonl"))


def summary(workdir: pathlib.Path, source: str | None = None) -> str:
    """Returns a table of a run's top-1 beside the baselines of raw pixels and of step 0; empty without labels.

    Args:
        workdir: the workdir of the run.
        source: the run's `init.from`.
    """
    seen: dict[str, float] = {}
    for row in read(workdir / "metrics.jsonl"):
        seen |= row
    if "linear_top1" not in seen:
        return ""
    lines = [f"{'top-1, percent':<24}{'k-NN':>7}{'linear':>9}"]
    for title, name in (("trained", ""), (first_weights(source), "init_"), ("raw pixels", "raw_")):
        knn, linear = (seen.get(f"{name}{kind}_top1") for kind in ("knn", "linear"))  # lines may be damaged or gone
        lines.append(f"{title:<24}{shown(knn):>7}{shown(linear):>9}")
    return "\n".join(lines)


def shown(percent: float | None) -> str:
    return "-" if percent is None else f"{percent:.1f}"
