"""The report of a run, or of several side by side: one HTML file that needs nothing else."""

from ssl_jax.report.page import write

__all__ = ["write"]
