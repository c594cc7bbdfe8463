"""What a protocol is, and what it finds."""

from typing import Any, ClassVar, NamedTuple

import numpy as np

from ssl_jax import parallel
from ssl_jax.evaluate.confidence import interval
from ssl_jax.evaluate.features import Features


class Result(NamedTuple):
    """The result of a protocol."""

    numbers: dict[str, Any]  # what evaluations/PROTOCOL.json shows; accuracies in percent
    scores: np.ndarray | None = None  # [N], of each test image, whose mean is the headline: 1 if it was right
    # Where the headline is no mean over images: [1 + R], in percent, of all test images and of draws of them, which are
    # the same for every subject.
    draws: np.ndarray | None = None


class Protocol:
    """A way to evaluate a subject: a frozen dataclass, whose fields are its settings."""

    needs: ClassVar[tuple[str, ...]] = ("labels", "test")  # of the images: labels, a test split
    on_pixels: ClassVar[bool] = True  # whether raw pixels are a baseline

    def check(self, subject: Any) -> None:
        """Checks what depends on the images or on the network, before features are extracted.

        Raises:
            UserError: if it does not fit.
        """

    def __call__(self, subject: Any) -> Result:
        """Measures a subject."""
        raise TypeError(f"{type(self).__name__} measures nothing")


def classified(predicted: Any, test: Features) -> Result:
    """Returns `top1` in percent of predictions [N] for test features, its 95 % `interval`, and the number of `images`.

    Images without a label do not count.
    """
    predicted, label, position = map(np.asarray, parallel.gather((predicted, test.label, test.position)))
    counted = np.flatnonzero((label >= 0) & (position >= 0))
    order = counted[np.argsort(position[counted], kind="stable")]
    right = predicted[order] == label[order]
    return scored("top1", right)


def scored(name: str, scores: np.ndarray, **more: Any) -> Result:
    """Returns the mean in percent of the scores [N] of test images in [0, 1], under a name, with its `interval`."""
    low, high = (100 * bound for bound in interval(scores))
    numbers = {name: 100 * float(np.mean(scores)), "interval": [low, high], "images": len(scores)}
    return Result(numbers | more, scores)
