"""Progress line, metric files and warnings of a running job."""

from ssl_jax.monitor.interruption import Interruption
from ssl_jax.monitor.monitor import Monitor, concluded, first_weights, summary
from ssl_jax.monitor.watch import Diverged

__all__ = ["Diverged", "Interruption", "Monitor", "concluded", "first_weights", "summary"]
