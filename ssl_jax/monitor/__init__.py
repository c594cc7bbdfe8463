"""Progress line, metric files and warnings of a running job."""

from ssl_jax.monitor.interruption import Interruption
from ssl_jax.monitor.monitor import NONFINITE, Monitor, concluded, first_weights, summary
from ssl_jax.monitor.watch import Diverged

__all__ = ["NONFINITE", "Diverged", "Interruption", "Monitor", "concluded", "first_weights", "summary"]
