"""Reading in one thread or in several."""

import threading
import time

import pytest

from ssl_jax.data import threads
from ssl_jax.data.threads import BLOCK, in_threads


def readers(seconds, length=20 * BLOCK):
    """Returns in how many threads blocks are read that take so long, once their order was checked."""
    seen = set()

    def read(block):
        time.sleep(seconds)
        seen.add(threading.get_ident())
        return list(block)

    blocks = list(in_threads(read, range(length)))
    assert [i for block in blocks for i in block] == list(range(length))
    return seen


def test_what_takes_long_is_read_in_several_threads_and_in_order(monkeypatch):
    monkeypatch.setattr(threads, "GRACE", 0.0)
    assert len(readers(0.005)) > 1
    assert readers(0.005, length=3) == {threading.get_ident()}


def test_what_is_read_fast_stays_in_one_thread(monkeypatch):
    monkeypatch.setattr(threads, "GRACE", 60.0)
    assert readers(0.0, length=20 * BLOCK + 1) == {threading.get_ident()}
    assert list(in_threads(list, [])) == []


def test_an_error_of_any_thread_is_raised(monkeypatch):
    monkeypatch.setattr(threads, "GRACE", 0.0)

    def read(block):
        time.sleep(0.002)
        if 10 * BLOCK in block:
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(in_threads(read, range(20 * BLOCK)))
