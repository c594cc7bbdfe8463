"""The progress line shows the right numbers and stays one line."""

import errno
import io
import os

import pytest

from ssl_jax.monitor.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def screen(stream):
    """Returns what a terminal shows: a carriage return and an erase start the last line again."""
    return [line.split("\r\x1b[K")[-1] for line in stream.getvalue().split("\n")]


def run(stream, steps, seconds=1.0, total=1000):
    clock = Clock()
    progress = Progress(total, 64, stream, clock)
    for step in range(1, steps + 1):
        clock.now += seconds
        progress.update(step, {"loss": 5 - step / 1000})
    return progress, clock


def test_a_terminal_that_is_closed_stops_nothing():
    class Closed(Terminal):
        def write(self, text):
            raise OSError(errno.EIO, "Input/output error")

    progress, _ = run(Closed(), 3)
    progress.note("everything is saved")
    progress.close()
    assert progress.stream.name == os.devnull
    progress.stream.close()


def test_one_line_on_a_terminal():
    stream = Terminal()
    progress, _ = run(stream, 100)
    progress.update(100, {"knn_top1": 78.34})
    progress.close()
    assert screen(stream)[1:] == [""]
    assert screen(stream)[0].startswith("step 100/1,000  loss 4.9  64 images/s  ETA 15:00")


def test_the_latest_knn_stays(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    stream, clock = Terminal(), Clock()
    progress = Progress(100, 8, stream, clock)
    progress.update(10, {"loss": 1.0, "knn_top1": 78.34})
    clock.now = 1.0
    progress.update(20, {"loss": 0.5})
    assert screen(stream) == ["step 20/100  loss 0.5  80 images/s  ETA 0:08  k-NN 78.3 %"]


def test_other_things_than_steps_are_counted():
    stream, clock = Terminal(), Clock()
    progress = Progress(100, 1, stream, clock, unit="image")
    progress.update(20, {})
    assert screen(stream) == ["image 20/100"]


def test_a_narrow_terminal_does_not_wrap(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    run(stream, 3)
    assert [len(line) for line in screen(stream)] == [19]


def test_a_note_does_not_break_the_line():
    stream = Terminal()
    progress, _ = run(stream, 5)
    progress.note("checkpoint saved")
    lines = screen(stream)
    assert lines[0] == "checkpoint saved" and lines[1].startswith("step 5/") and len(lines) == 2


def test_few_plain_lines_elsewhere():
    stream = io.StringIO()
    progress, _ = run(stream, 35)
    progress.note("half way")
    progress.close()
    lines = stream.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        *("step 1/1,000", "step 11/1,000", "step 21/1,000", "step 31/1,000"),
        *("half way", "step 35/1,000"),
    ]
    assert "\r" not in stream.getvalue() and "\x1b" not in stream.getvalue()


def test_the_end_is_not_said_twice():
    stream = io.StringIO()
    progress, _ = run(stream, 1)
    progress.close()
    assert len(stream.getvalue().splitlines()) == 1


def test_speed_forgets_the_distant_past():
    progress, clock = run(io.StringIO(), 10, seconds=100.0)
    for step in range(11, 200):
        clock.now += 0.5
        progress.update(step, {})
    assert progress.images_per_second == pytest.approx(128)


def test_nothing_happened():
    stream = io.StringIO()
    progress = Progress(10, 4, stream)
    assert progress.images_per_second is None
    progress.close()
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(7, "0:07"), (754, "12:34"), (3723, "1:02:03"), (86400 * 2 + 3600, "2 d 1:00:00")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text
