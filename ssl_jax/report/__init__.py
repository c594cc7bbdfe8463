"""The report of one run or of several side by side: one self-contained HTML file."""

from ssl_jax.report.page import write

__all__ = ["write"]
