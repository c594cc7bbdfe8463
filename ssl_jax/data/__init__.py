"""Image sources, and batches of them as a pure function of (seed, step)."""

from ssl_jax.data.field import Field, Integers, Picture, Text, fit, image_fields
from ssl_jax.data.loader import batches, read, spec
from ssl_jax.data.order import Balanced, Order, Shuffled
from ssl_jax.data.resident import fits, load_all
from ssl_jax.data.source import Source, open_source
from ssl_jax.data.splits import open_splits
from ssl_jax.data.subset import Subset
from ssl_jax.data.tokenizer import tokenize

__all__ = [
    "Balanced",
    "Field",
    "Integers",
    "Order",
    "Picture",
    "Shuffled",
    "Source",
    "Subset",
    "Text",
    "batches",
    "fit",
    "fits",
    "image_fields",
    "load_all",
    "open_source",
    "open_splits",
    "read",
    "spec",
    "tokenize",
]
