"""Dense prediction: a linear classifier of patches segments images."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax import augment, data, parallel
from ssl_jax.evaluate.features import extract
from ssl_jax.evaluate.linear import Scaling, fit, scaling, with_constant
from ssl_jax.evaluate.result import Protocol, Result, scored
from ssl_jax.evaluate.subject import Subject, open_samples
from ssl_jax.fields import positive
from ssl_jax.method import look
from ssl_jax.numeric import widen

MASK = ("mask",)


@dataclasses.dataclass(frozen=True)
class Dense(Protocol):
    """Logistic regression on frozen features of patches segments images that have masks.

    What is in its mask has the class of its image, and all else is background; images without classes have objects.
    The scores of patches are interpolated to pixels. `miou` is the mean over the classes of intersection over union of
    the pixels of all test images, `pixel_accuracy` the mean share of pixels that are right.
    """

    strength: Annotated[float, positive] = 1e-3  # of the L2 penalty

    needs: ClassVar[tuple[str, ...]] = ("test",)
    on_pixels: ClassVar[bool] = False

    def check(self, subject):
        run, name = subject.run, subject.samples.bank.images.name
        data.open_source(name, "train", run.config.data.dir, MASK, reading=run.reading)

    def __call__(self, subject: Subject) -> Result:
        bank, test = open_samples(subject.run, subject.mesh, subject.samples.bank.images.name, MASK)
        classes = ("background", *(subject.classes or ("object",)))
        found = extract(patches_of(subject), subject.weights, bank)
        x, covered = found["patches"].x, found["covered"].x
        inside = (found["patches"].position >= 0)[:, None] & (covered >= 0)
        label = jnp.where(covered > 0.5, category(found["patches"].label, subject.classes)[:, None], 0)
        labels, x = jnp.where(inside, label, -1).reshape(-1), widen(x).reshape(-1, x.shape[-1])
        scale = scaling(x, labels >= 0)
        kernel = fit(with_constant(scale, x), labels, len(classes), self.strength)
        counted = extract(segmenter(subject, scale, kernel), subject.weights, test)["counts"]
        counts, position = map(np.asarray, parallel.gather((counted.x, counted.position)))
        return summary(counts[position >= 0], classes)


def category(label: jax.Array, classes: tuple[str, ...]) -> jax.Array:
    """Returns the class of what is in the masks of images with labels [B]; 0 is the background."""
    return label + 1 if classes else jnp.ones_like(label)


def encoding_of(subject: Subject, weights, batch):
    """Returns the encoding of the centre crops of a raw batch, and their masks, bool [B, H, W]."""
    run = subject.run
    images = subject.center(subject.size)(batch)
    variables, images = run.method.seen(weights.params, weights.state, images)
    encoding = look(run.method.network, variables, "encoding", images)
    return encoding, augment.center_mask(batch, subject.size, subject.crop)


def patches_of(subject: Subject) -> Callable:
    """Returns a function for `extract`: features of `patches` [B, S, C], and how much of each is `covered` [B, S]."""

    @functools.partial(jax.jit, out_shardings=parallel.batch_sharding(subject.mesh))
    def encode(weights, batch):
        encoding, mask = encoding_of(subject, weights, batch)
        covered = jax.image.resize(mask.astype(jnp.float32), (len(mask), *encoding.grid), "linear")
        return {"patches": encoding.patches, "covered": covered.reshape(len(mask), -1)}

    return encode


def segmenter(subject: Subject, scale: Scaling, kernel: jax.Array) -> Callable:
    """Returns a function for `extract`: pixel `counts` [B, K, 2], the intersection and the union of each class."""

    @functools.partial(jax.jit, out_shardings=parallel.batch_sharding(subject.mesh))
    def count(weights, batch):
        encoding, mask = encoding_of(subject, weights, batch)
        rows = widen(encoding.patches).reshape(-1, encoding.patches.shape[-1])
        scores = (with_constant(scale, rows) @ kernel).reshape(len(mask), *encoding.grid, -1)
        scores = jax.image.resize(scores, (*mask.shape, kernel.shape[1]), "linear")
        truth = jnp.where(mask, category(batch["label"], subject.classes)[:, None, None], 0)
        found = jnp.argmax(scores, axis=-1), truth
        ours, theirs = (jax.nn.one_hot(labels, kernel.shape[1], dtype=bool) for labels in found)
        both, either = (jnp.sum(x, axis=(1, 2), dtype=jnp.int32) for x in (ours & theirs, ours | theirs))
        return {"counts": jnp.stack([both, either], axis=-1)}

    return count


def summary(counts: np.ndarray, classes: tuple[str, ...]) -> Result:
    """Returns the result, given intersections and unions of each class in each test image, int [N, K, 2]."""
    both, either = counts.sum(axis=0, dtype=float).T
    iou = both[either > 0] / either[either > 0]
    pixels = counts[..., 0].sum(axis=1)  # that are right
    total = (counts[..., 1] + counts[..., 0]).sum(axis=1) / 2  # each pixel has one true and one predicted class
    result = scored("pixel_accuracy", pixels / total)
    named = dict(zip(np.array(classes)[either > 0].tolist(), (100 * iou).tolist(), strict=True))
    return result._replace(numbers={"miou": 100 * float(iou.mean())} | result.numbers | {"iou": named})
