"""Requests to stop: Ctrl-C, SIGTERM, SIGHUP and maintenance notices let a run save and stop at the next step.

The steps of all processes end together because `parallel.any_process` spreads a request with the next step; JAX's
`reached_preemption_sync_point` would do so for SIGTERM alone.
"""

import contextlib
import os
import signal
import sys
import threading

from ssl_jax import command
from ssl_jax.monitor import maintenance

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """A context in which a notice or the first signal only sets `requested`; the second signal is handled as usual.

    A signal that is ignored, as SIGHUP is under nohup, stays ignored.
    """

    def __init__(self) -> None:
        self.cause: str | None = None  # of the request

    @property
    def requested(self) -> bool:
        """Whether this process was asked to stop."""
        return self.cause is not None

    def __enter__(self):
        heard = [stop for stop in STOPS if signal.getsignal(stop) is not signal.SIG_IGN]
        self.before = {stop: signal.signal(stop, self.signalled) for stop in heard}
        self.left = threading.Event()
        threading.Thread(target=maintenance.listen, args=(self.request, self.left), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.left.set()
        self.restore()

    def request(self, cause: str) -> None:
        """Asks to stop; only the first cause counts."""
        self.cause = self.cause or cause

    def signalled(self, number, frame) -> None:
        name = signal.Signals(number).name
        self.request(name)
        self.restore()
        said = f"\n{name}: saves and ends after this step; a second one ends at once, and loses what is not saved\n"
        with contextlib.suppress(OSError, ValueError, AttributeError):  # Ctrl-C may have ended who reads it
            os.write(sys.stderr.fileno(), said.encode())  # a handler may not print: another print may be under way

    def restore(self) -> None:
        for stop, handler in self.before.items():
            signal.signal(stop, handler)

    def stop(self) -> None:
        """Ends the command.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
            SystemExit: after another request, or if another process was asked.
        """
        raise KeyboardInterrupt if self.cause == signal.SIGINT.name else SystemExit(command.AGAIN)
