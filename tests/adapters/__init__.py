"""Adapters: how our code computes the golden cases, one function per `kind` of the manifest.

    @adapter("sinkhorn")
    def sinkhorn(args, arrays):              # args: the case's parameters; arrays: name -> numpy array
        return {"q": ...}                    # our numbers, under the names of the arrays they must equal

The runner checks that every array of a case is either read by its adapter (an input) or returned (an output). An array
that is neither must be named in `ignored`, and an output that agrees less than the precision of its case in `deviates`,
each with its reason; where the arguments decide how much less, the output is a `Near`. Likewise every argument must be
read, here or as the array of the same name, but for those that say how the arrays were made.
"""

import dataclasses
import importlib
import pathlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np


class Near(NamedTuple):
    """Our numbers and how far from them the original's may lie, in their unit, for a reason given where it is made."""

    numbers: np.ndarray
    within: float | np.ndarray


@dataclasses.dataclass(frozen=True)
class Adapter:
    compute: Callable
    ignored: Mapping[str, str]  # name of an array or arg (or a pattern) -> why it is not compared or read
    deviates: Mapping[str, tuple[float, str]]  # array name (or prefix*) -> relative tolerance, why


ADAPTERS: dict[str, Adapter] = {}


def adapter(
    *kinds: str, ignored: Mapping[str, str] | None = None, deviates: Mapping[str, tuple[float, str]] | None = None
):
    """Registers a function `(args, arrays) -> {name: value}` as what computes the cases of these kinds."""

    def register(compute):
        for kind in kinds:
            assert kind not in ADAPTERS, f"two adapters for {kind}"
            ADAPTERS[kind] = Adapter(compute, ignored or {}, deviates or {})
        return compute

    return register


def load() -> dict[str, Adapter]:
    """Imports every module of this folder and returns the table kind -> adapter."""
    for module in pkgutil.iter_modules([str(pathlib.Path(__file__).parent)]):
        importlib.import_module(f"{__name__}.{module.name}")
    return ADAPTERS
