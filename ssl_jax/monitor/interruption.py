"""Handles Ctrl-C and SIGTERM: after the first, a run saves and stops at the next step; after the second, at once."""

import signal

STOPS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A context in which the first signal only sets `requested`; the second is handled as usual."""

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
