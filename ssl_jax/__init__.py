"""Self-supervised learning of image representations in JAX."""

import importlib
from typing import Any

LAZY = {"Model": "ssl_jax.model", "load": "ssl_jax.model", "import_weights": "ssl_jax.interop"}


def __getattr__(name: str) -> Any:
    """Imports what is asked for only then, since JAX and Flax take seconds."""
    if name in LAZY:
        return getattr(importlib.import_module(LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
