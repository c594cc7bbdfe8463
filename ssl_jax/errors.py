"""Errors of the user."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """An error of the user, in one sentence that says what is wrong and what to set; commands print it and exit."""


def suggest(name: str, choices: Iterable[str]) -> str:
    """Returns help for an unknown name: "did you mean 'x'?" for a similar valid name, else all valid names."""
    choices = sorted(choices)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "valid: " + ", ".join(choices)
