"""Handles Ctrl-C, SIGTERM and SIGHUP: the first lets a run save and stop at the next step, the second is as usual."""

import signal

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """A context in which the first signal only sets `requested`; the second is handled as usual.

    A signal that is ignored, as SIGHUP is under nohup, stays ignored.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self):
        heard = [stop for stop in STOPS if signal.getsignal(stop) is not signal.SIG_IGN]
        self.before = {stop: signal.signal(stop, self.request) for stop in heard}
        return self

    def __exit__(self, *error):
        for stop, handler in self.before.items():
            signal.signal(stop, handler)

    def request(self, number, frame) -> None:
        self.requested = True
        for stop, handler in self.before.items():
            signal.signal(stop, handler)
