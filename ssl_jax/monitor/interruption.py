"""Ctrl-C and a scheduler's SIGTERM: asked once, a run stops at the next step and saves; asked twice, at once."""

import signal

STOPS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """While entered, remembers in `requested` that a first signal came instead of dying of it."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self):
        self.before = {stop: signal.signal(stop, self.request) for stop in STOPS}
        return self

    def __exit__(self, *error):
        for stop, handler in self.before.items():
            signal.signal(stop, handler)

    def request(self, number, frame) -> None:
        self.requested = True
        for stop, handler in self.before.items():
            signal.signal(stop, handler)
