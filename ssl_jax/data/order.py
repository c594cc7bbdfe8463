"""The images of each batch, as pure functions of (seed, step): a resumed run needs no iterator state."""

import dataclasses
import functools
from typing import Protocol, TypeVar

import jax
import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.words import number_of

Step = TypeVar("Step", int, jax.Array)


class Order(Protocol):
    """Defines which images form the batch of a step, and the clock of their augmentation."""

    def __call__(self, step: int) -> np.ndarray:
        """Returns the positions in the source of the batch of a step, int32 [batch_size]."""

    def visit(self, step: Step) -> Step:
        """Returns the clock of the augmentation at a step (int [], may be traced).

        No image occurs twice in one visit, so each time an image is drawn, it is augmented differently.
        """


@functools.lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """Returns the order of the images in an epoch, int32 [size]."""
    # NumPy guarantees the bits of Philox across versions, but not those of its own shuffles.
    bits = np.random.Philox(key=[seed, epoch]).random_raw(size)
    return np.argsort(bits, kind="stable").astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Shuffled:
    """Visits every image once per epoch, in a new order each time, and drops the incomplete last batch.

    Args:
        seed: the seed of the run, at least 0.
        size: the number of images in the source.
        batch_size: the size of the global batch.
        passes: how many consecutive epochs have the same order.

    Raises:
        UserError: if the source has fewer images than a batch.
    """

    seed: int
    size: int
    batch_size: int
    passes: int = 1

    def __post_init__(self):
        if self.size < self.batch_size:
            images = number_of(self.size, "image")
            raise UserError(f"the source has {images}, fewer than batch_size {self.batch_size}; lower batch_size")

    def __call__(self, step: int) -> np.ndarray:
        """Returns the positions in the source of the batch of a step, int32 [batch_size]."""
        epoch, position = divmod(step, self.size // self.batch_size)
        return permutation(self.seed, epoch // self.passes, self.size)[position * self.batch_size :][: self.batch_size]

    def visit(self, step: Step) -> Step:
        """Returns the epoch."""
        return step // (self.size // self.batch_size)


class Balanced:
    """Draws P classes and K images of each for every step, as losses over the pairs of a batch need.

    Args:
        seed: the seed of the run, at least 0.
        labels: int [N], the labels of the source; images with the label -1 (unknown) are never drawn.
        batch_size: the size of the global batch, P K.
        images_per_class: K. Classes with fewer images are never drawn.

    Raises:
        UserError: if K does not divide the batch size, or fewer than P classes have K images.

    Source: In Defense of the Triplet Loss (Hermans et al. 2017, arXiv:1703.07737), section 2.
    """

    def __init__(self, seed: int, labels: np.ndarray, batch_size: int, images_per_class: int):
        if batch_size % images_per_class:
            raise UserError(
                f"data.images_per_class {images_per_class} does not divide batch_size {batch_size}; change one of them"
            )
        self.seed, self.each, self.count = seed, images_per_class, batch_size // images_per_class
        order = np.argsort(labels, kind="stable").astype(np.int32)
        groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
        self.groups = [group for group in groups if labels[group[0]] >= 0 and len(group) >= self.each]
        if len(self.groups) < self.count:
            advice = "raise data.images_per_class or lower batch_size" if self.groups else "lower data.images_per_class"
            raise UserError(
                f"a batch of {batch_size} takes {number_of(self.each, 'image')} of {number_of(self.count, 'class')}, "
                f"but {len(self.groups)} have as many; {advice}"
            )

    def __call__(self, step: int) -> np.ndarray:
        """Returns the positions in the source of the batch of a step, int32 [P K], class by class."""
        bits = np.random.Philox(key=[self.seed, step])
        classes = np.argsort(bits.random_raw(len(self.groups)), kind="stable")[: self.count]
        groups = [self.groups[i] for i in classes]
        return np.concatenate([g[np.argsort(bits.random_raw(len(g)), kind="stable")[: self.each]] for g in groups])

    def visit(self, step: Step) -> Step:
        """Returns the step, since an image may be drawn several times per epoch."""
        return step
