"""Self-supervised learning of image representations in JAX."""

import importlib
import os
from typing import Any

LAZY = {"Model": "ssl_jax.model", "load": "ssl_jax.model", "import_weights": "ssl_jax.interop"}


# Warnings of XLA's compilers, such as "Delay kernel timed out", are for its developers. "Very slow compile?" is an
# error to XLA: hiding it would take 3, which also hides why a GPU cannot be used. JAX reads this when imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def __getattr__(name: str) -> Any:
    """Imports what is asked for only then, since JAX and Flax take seconds."""
    if name in LAZY:
        return getattr(importlib.import_module(LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
