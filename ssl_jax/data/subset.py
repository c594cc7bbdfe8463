"""A subset of a source."""

from typing import Any

import numpy as np

from ssl_jax.data.source import Source


class Subset:
    """The examples at given positions of another source.

    Args:
        source: the other source.
        index: int [N], the positions.
    """

    def __init__(self, source: Source, index: np.ndarray):
        self.source, self.index = source, index
        self.name, self.classes, self.fields = source.name, source.classes, source.fields

    @property
    def labels(self) -> np.ndarray:
        return np.asarray(self.source.labels)[self.index]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return self.source[int(self.index[i])]
