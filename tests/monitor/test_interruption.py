"""Signals and maintenance notices ask a run to save and stop, once."""

import os
import signal
import sys
import threading
import time

import pytest

from ssl_jax.monitor import maintenance
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


def test_notices_ask_as_soon_as_they_come(metadata, monkeypatch):
    monkeypatch.setattr(maintenance, "EVERY", 0.01)
    values = {"maintenance-event": "MIGRATE_ON_HOST_MAINTENANCE", "preempted": "FALSE"}
    monkeypatch.setenv("GCE_METADATA_HOST", metadata(values))
    with Interruption() as interruption:
        time.sleep(0.1)
        assert not interruption.requested
        values["maintenance-event"] = "TERMINATE_ON_HOST_MAINTENANCE"
        deadline = time.monotonic() + 30
        while not interruption.requested and time.monotonic() < deadline:
            time.sleep(0.01)
    assert interruption.cause == "maintenance-event TERMINATE_ON_HOST_MAINTENANCE"
    with pytest.raises(SystemExit, match="75"):
        interruption.stop()


def test_what_is_no_metadata_server_is_not_heard(metadata, monkeypatch):
    host = metadata({"preempted": "TRUE"}, flavor="a provider's page for names that do not exist")
    assert maintenance.read(host, "preempted") is None
    assert maintenance.read("127.0.0.1:9", "preempted") is None
    monkeypatch.setenv("GCE_METADATA_HOST", "no.such.host.invalid")
    maintenance.listen(pytest.fail, threading.Event())


def test_a_signal_is_heard_though_nobody_reads_what_is_said(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as broken:
        monkeypatch.setattr(sys, "stderr", broken)
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGINT)
            assert interruption.requested
        monkeypatch.undo()
