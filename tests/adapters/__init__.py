"""Adapters: how our code computes the golden cases, one function per `kind` of the manifest.

    @adapter("sinkhorn")
    def sinkhorn(args, arrays):              # args: the parameters of the case; arrays: name -> numpy array
        return {"q": ...}                    # our numbers, by the names of the arrays that they must equal

The runner checks that every array of a case is either read by its adapter (an input) or returned (an output). Arrays
that are neither must be named in `ignored`, and outputs with a larger tolerance than the precision of the case in
`deviates`, each with a reason; if the tolerance depends on the arguments, the output is a `Near`. Likewise every
argument must be read, here or as the array of the same name, except for those that say how the arrays were made.
"""

import dataclasses
import importlib
import pathlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np


class Near(NamedTuple):
    """Our numbers and an absolute tolerance, whose reason is given where it is computed."""

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
    """Registers a function `(args, arrays) -> {name: value}` as the adapter of these kinds."""

    def register(compute):
        for kind in kinds:
            assert kind not in ADAPTERS, f"two adapters for {kind}"
            ADAPTERS[kind] = Adapter(compute, ignored or {}, deviates or {})
        return compute

    return register


def load() -> dict[str, Adapter]:
    """Imports every module of this folder, and returns the table of adapters by kind."""
    for module in pkgutil.iter_modules([str(pathlib.Path(__file__).parent)]):
        importlib.import_module(f"{__name__}.{module.name}")
    return ADAPTERS
