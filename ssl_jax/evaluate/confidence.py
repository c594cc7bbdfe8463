"""How sure a mean over test images is, by the bootstrap."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95


class Difference(NamedTuple):
    """The difference of two means over the same images."""

    value: float
    low: float  # of its interval
    high: float

    @property
    def is_real(self) -> bool:
        """Whether it is more than the choice of test images explains: 0 lies outside the interval."""
        return self.low > 0 or self.high < 0


def interval(values: np.ndarray) -> tuple[float, float]:
    """Returns the interval that holds 95 % of the means of resampled values [N].

    It says what another draw of test images would change, not what another training would.

    Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", section 13.3 (percentile interval).
    """
    return middle(resampled_means(values))


def middle(draws: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Returns the interval that holds the middle 95 % of numbers, one from each draw of test images."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def difference(ours: np.ndarray, theirs: np.ndarray) -> Difference:
    """Compares two means over the same images, [N] each: images are drawn in pairs, so how hard they are cancels."""
    each = np.asarray(ours, float) - np.asarray(theirs, float)
    return Difference(float(each.mean()), *interval(each))


def difference_of_draws(ours: np.ndarray, theirs: np.ndarray) -> Difference:
    """Compares two numbers that are no means, over the same images and the same draws of them, see `Result.draws`."""
    value, *each = np.asarray(ours, float) - np.asarray(theirs, float)
    return Difference(float(value), *middle(each))


def resampled_means(values: np.ndarray) -> np.ndarray:
    """Returns the means of `RESAMPLES` draws of N of the values [N] with replacement.

    How often each distinct value is drawn is multinomial, so for correct and wrong answers no image is drawn at all.
    """
    distinct, counts = np.unique(np.asarray(values, float), return_counts=True)
    drawn = np.random.default_rng(0).multinomial(len(values), counts / len(values), RESAMPLES)
    return drawn @ distinct / len(values)
