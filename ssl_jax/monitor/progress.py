"""A progress line that is rewritten in place."""

import collections
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

WINDOW = 60.0  # seconds over which the speed is measured
LIVE, PLAIN = 0.1, 10.0  # seconds between two lines, on a terminal and elsewhere


class Progress:
    """Shows step, loss, speed, time left and the latest k-NN top-1, in place on a terminal, else line by line.

    Args:
        total: the last step of the run.
        batch_size: images per step, over all devices.
        stream: the text stream to write to.
        clock: a function that returns seconds.
        unit: what is counted.
    """

    def __init__(
        self,
        total: int,
        batch_size: int,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        unit: str = "step",
    ):
        self.total, self.batch_size, self.clock, self.unit = total, batch_size, clock, unit
        self.stream = stream or sys.stdout
        self.live = self.stream.isatty()
        self.latest: dict[str, float] = {}
        self.seen: collections.deque[tuple[float, int]] = collections.deque()  # (time, step), oldest first
        self.shown_at = -math.inf
        self.shown_step = -1

    @property
    def images_per_second(self) -> float | None:
        """The speed over the last minute, with evaluation and checkpoints; None before the second update."""
        if len(self.seen) < 2:
            return None
        (start, first), (now, last) = self.seen[0], self.seen[-1]
        return (last - first) * self.batch_size / max(now - start, 1e-9)

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Updates the line after a step; a metric that is missing keeps its last value."""
        now = self.clock()
        self.latest.update(metrics)
        self.seen.append((now, step))
        while len(self.seen) > 2 and now - self.seen[1][0] >= WINDOW:
            self.seen.popleft()
        if now - self.shown_at >= (LIVE if self.live else PLAIN):
            self.show()

    def note(self, text: str) -> None:
        """Prints a message on a line of its own, and the progress line again below it."""
        self.write(f"\r\x1b[K{text}\n" if self.live else f"{text}\n")
        if self.live and self.seen:
            self.show()

    def close(self) -> None:
        """Shows the last state and ends the progress line."""
        if self.seen and (self.live or self.shown_step != self.seen[-1][1]):
            self.show()
        if self.live and self.seen:
            self.write("\n")

    def show(self) -> None:
        self.shown_at, self.shown_step = self.seen[-1]
        if self.live:
            width = (
                shutil.get_terminal_size().columns - 1
            )  # a longer line would wrap and could not be rewritten in place
            self.write(f"\r\x1b[K{self.line()[:width]}")
        else:
            self.write(self.line() + "\n")

    def write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except OSError:  # nobody can read it any more: the terminal is closed, or the disk with the log is full
            self.stream = open(os.devnull, "w")  # noqa: SIM115  open until the run ends

    def line(self) -> str:
        step = self.seen[-1][1]
        parts = [f"{self.unit} {step:,}/{self.total:,}"]
        if "loss" in self.latest:
            parts.append(f"loss {self.latest['loss']:.4g}")
        if speed := self.images_per_second:
            left = (self.total - step) * self.batch_size / speed
            parts += [f"{speed:,.0f} images/s" if speed >= 10 else f"{speed:.1f} images/s", f"ETA {duration(left)}"]
        if "knn_top1" in self.latest:
            parts.append(f"k-NN {self.latest['knn_top1']:.1f} %")
        return "  ".join(parts)


def duration(seconds: float) -> str:
    """Formats a duration in seconds as 0:07, 12:34 or 1:02:03, preceded by the days if there are any."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if not hours:
        return f"{minute}:{second:02}"
    return (f"{days} d " if days else "") + f"{hour}:{minute:02}:{second:02}"
