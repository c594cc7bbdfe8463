"""Image sources, and batches of them as a pure function of (seed, step)."""

from ssl_jax.data.field import UNKNOWN, Boxes, Field, Integers, Picture, Segments, Text, fit, image_fields
from ssl_jax.data.identity import CHANGED
from ssl_jax.data.image import MAX_PIXELS
from ssl_jax.data.loader import batches, read, spec
from ssl_jax.data.order import Balanced, Order, Shuffled
from ssl_jax.data.reading import Reading
from ssl_jax.data.resident import fits, load_all, pack, take
from ssl_jax.data.source import Source, has_field, open_source
from ssl_jax.data.splits import open_splits
from ssl_jax.data.subset import Subset
from ssl_jax.data.survey import Survey, describe, remarks
from ssl_jax.data.tokenizer import tokenize

__all__ = [
    "CHANGED",
    "MAX_PIXELS",
    "UNKNOWN",
    "Balanced",
    "Boxes",
    "Field",
    "Integers",
    "Order",
    "Picture",
    "Reading",
    "Segments",
    "Shuffled",
    "Source",
    "Subset",
    "Survey",
    "Text",
    "batches",
    "describe",
    "fit",
    "fits",
    "has_field",
    "image_fields",
    "load_all",
    "open_source",
    "open_splits",
    "pack",
    "read",
    "remarks",
    "spec",
    "take",
    "tokenize",
]
