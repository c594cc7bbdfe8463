"""A limit on how many calls of a compiled program are under way."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax

Result = TypeVar("Result")


def paced(call: Callable[..., Result], told_by: Callable[[Result], Any] = lambda result: result):
    """Returns a function that calls another one, of which at most two calls are under way at once.

    Calls of compiled programs return before they have run. With many under way, their inputs would fill the memory of a
    device, and the virtual devices of a busy CPU, which share threads, can wait for each other for ever.

    Args:
        call: returns a tree of arrays.
        told_by: the arrays of a result that tell when the call has ended; no later call takes them by donation.
    """
    before = None

    def run(*arguments) -> Result:
        nonlocal before
        result = call(*arguments)
        jax.block_until_ready(before)
        before = told_by(result)
        return result

    return run
