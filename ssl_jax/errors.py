"""What the user did wrong, said in one sentence."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user's: one sentence that says what is wrong and what to do; the commands print it and exit."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Returns `; did you mean 'x'?`-style help for an unknown name: its nearest valid one, else all the valid ones."""
    choices = sorted(choices)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "valid: " + ", ".join(choices)
