"""A subset of a source."""

import dataclasses
import functools
from typing import Any

import numpy as np

from ssl_jax.data.source import Source
from ssl_jax.data.survey import Survey


class Subset:
    """The examples at given positions of another source.

    Args:
        source: the other source.
        index: int [N], the positions.
    """

    def __init__(self, source: Source, index: np.ndarray):
        self.source, self.index = source, index
        self.name, self.classes, self.fields = source.name, source.classes, source.fields

    @functools.cached_property
    def survey(self) -> Survey:
        """That of the other source, with the classes counted here."""
        survey = self.source.survey
        if survey.counts is None:
            return survey
        return dataclasses.replace(survey, counts=np.bincount(self.labels, minlength=len(self.classes)))

    @property
    def version(self) -> str | None:
        return self.source.version

    @property
    def listing(self) -> list[tuple[str, int]]:
        listing = self.source.listing
        return [listing[i] for i in self.index] if listing else []

    @property
    def labels(self) -> np.ndarray:
        return np.asarray(self.source.labels)[self.index]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return self.source[int(self.index[i])]
