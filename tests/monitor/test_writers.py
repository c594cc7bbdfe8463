"""Metrics survive a kill: the files after a resume equal those of an uninterrupted run."""

import json
import struct
import sys
import types

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from ssl_jax.errors import UserError
from ssl_jax.monitor.writers import Writers, read


def write(workdir, steps, resume_step=None):
    writers = Writers(workdir, resume_step)
    for step in steps:
        writers.write(step, {"loss": np.float32(1 / (step + 1)), "count": np.int32(step)})
    writers.close()


def events(workdir):
    found = []
    for file in sorted((workdir / "tensorboard").iterdir(), key=lambda file: int(file.suffix[1:])):
        data = file.read_bytes()
        while data:  # a record: its length in 8 bytes, a checksum in 4, itself, a checksum in 4
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def test_a_row_is_on_disk_at_once(tmp_path):
    writers = Writers(tmp_path)
    writers.write(3, {"loss": 0.5})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 3, "loss": 0.5}\n'
    writers.close()


def test_resume_leaves_the_uninterrupted_file(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    write(tmp_path / "whole", range(0, 60, 10))
    write(tmp_path / "killed", range(0, 50, 10))
    file = tmp_path / "killed" / "metrics.jsonl"
    file.write_text(file.read_text() + '{"step": 50, "lo')
    write(tmp_path / "killed", range(30, 60, 10), resume_step=20)
    assert file.read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    assert list(tmp_path.glob("killed/*.part*")) == []


def test_damaged_lines_are_left_out_and_kept(tmp_path, capsys):
    file = tmp_path / "metrics.jsonl"
    rows = [b'{"step": 0, "loss": 1.0}\n', b'{"step": 10, "loss": 0.5}\n', b'{"step": 20, "loss": 0.3}\n']
    damaged = [b'{"step": 5, "lo\n', b"\xff\xfe\0\n", b"[1]\n", b"{}\n", b"\n"]
    file.write_bytes(b"".join([rows[0], *damaged, *rows[1:]]) + b'{"step": 25, "loss"')
    assert [row["step"] for row in read(file)] == [0, 10, 20]
    Writers(tmp_path, resume_step=10).close()
    assert file.read_bytes() == b"".join([rows[0], *damaged, rows[1]])
    assert "has 5 damaged lines, left alone" in capsys.readouterr().out


def test_a_run_from_the_beginning_drops_what_a_failed_start_left(tmp_path):
    write(tmp_path, [0, 10])
    write(tmp_path, [0])
    assert [row["step"] for row in read(tmp_path / "metrics.jsonl")] == [0]


def test_float32_is_exact_and_short(tmp_path):
    values = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    writers = Writers(tmp_path)
    writers.write(0, {str(i): value for i, value in enumerate(values)} | {"tenth": np.float32(0.1)})
    writers.close()
    (row,) = read(tmp_path / "metrics.jsonl")
    np.testing.assert_array_equal([np.float32(row[str(i)]) for i in range(100)], values)
    assert '"tenth": 0.1}' in (tmp_path / "metrics.jsonl").read_text()


@pytest.mark.parametrize("value", [np.nan, np.inf, np.float32(-np.inf)])
def test_not_finite_is_valid_json(tmp_path, value):
    writers = Writers(tmp_path)
    writers.write(1, {"loss": value, "rank": 2})
    writers.close()

    def refuse(constant):
        raise ValueError(constant)

    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=refuse) == {"step": 1, "loss": None, "rank": 2}


def test_tensorboard_forgets_the_steps_that_are_done_again(tmp_path):
    write(tmp_path, [0, 10, 20])
    write(tmp_path, [20], resume_step=10)
    scalars = [(e.step, v.tag, v.simple_value) for e in events(tmp_path) for v in e.summary.value if v.tag == "loss"]
    assert [(step, round(1 / value)) for step, _, value in scalars] == [(0, 1), (10, 11), (20, 21), (20, 21)]
    starts = [event.step for event in events(tmp_path) if event.HasField("session_log")]
    assert starts == [0, 11]


def test_wandb_missing_is_one_sentence_and_touches_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install wandb"):
        Writers(tmp_path, wandb=True)
    assert list(tmp_path.iterdir()) == []


def test_wandb_resumes_the_same_run(tmp_path, monkeypatch):
    calls = []

    def init(**settings):
        calls.append(settings)
        return types.SimpleNamespace(log=lambda row, step: calls.append((step, row)), finish=lambda: None)

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    for resume_step in (None, 5, None):
        writers = Writers(tmp_path, resume_step, {"seed": 0}, wandb=True)
        writers.write(6, {"loss": 1.0, "bad": np.nan})
        writers.close()
    first, second, third = (call["id"] for call in calls[::2])
    assert first == second != third
    assert calls[1] == (6, {"loss": 1.0}) and calls[0]["config"] == {"seed": 0}
