"""Signals ask a run to save and stop, once."""

import os
import signal

import pytest

from ssl_jax.monitor.interruption import STOPS, Interruption


@pytest.mark.parametrize("stop", STOPS)
def test_the_first_signal_asks_and_the_second_is_as_usual(stop):
    second = []
    before = signal.signal(stop, lambda *_: second.append(stop))
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), stop)
            assert (interruption.requested, second) == (True, [])
            os.kill(os.getpid(), stop)
            assert second == [stop]
        with Interruption() as interruption:
            pass
        os.kill(os.getpid(), stop)
        assert (interruption.requested, len(second)) == (False, 2)
    finally:
        signal.signal(stop, before)


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not interruption.requested
    finally:
        signal.signal(signal.SIGHUP, before)
