"""Dense prediction: a linear classifier of patches segments images."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax import augment, data, parallel
from ssl_jax.errors import UserError
from ssl_jax.evaluate.features import extract
from ssl_jax.evaluate.linear import Scaling, fit, scaling, with_constant
from ssl_jax.evaluate.result import Protocol, Result, scored
from ssl_jax.evaluate.subject import Samples, Subject
from ssl_jax.fields import positive
from ssl_jax.method import look
from ssl_jax.numeric import widen

CHECKED = 64  # images of which one has to have a mask


@dataclasses.dataclass(frozen=True)
class Dense(Protocol):
    """Logistic regression on frozen features of patches segments images that have masks.

    The segments of segments:/path have classes. Else what is in its mask has the class of its image, and all else is
    background; images without classes have objects. The scores of patches are interpolated to pixels. `miou` is the
    mean over the classes of intersection over union of the pixels of all test images, `pixel_accuracy` the mean share
    of pixels that are right.
    """

    strength: Annotated[float, positive] = 1e-3  # of the L2 penalty
    size: Annotated[int, positive] | None = None  # side in pixels that images are seen at; None: `data.size`

    needs: ClassVar[tuple[str, ...]] = ("test",)
    on_pixels: ClassVar[bool] = False

    def check(self, subject):
        bank, _ = samples_of(subject.sized(self.size))
        check_masks(bank.images)

    def __call__(self, subject: Subject) -> Result:
        subject = subject.sized(self.size)
        bank, test = samples_of(subject)
        classes = classes_of(bank.images)
        found = extract(patches_of(subject, len(classes)), subject.weights, bank)
        x, labels = found["patches"].x, found["labels"].x
        labels = jnp.where(found["patches"].position[:, None] >= 0, labels, -1).reshape(-1)
        x = widen(x).reshape(-1, x.shape[-1])
        scale = scaling(x, labels >= 0)
        kernel = fit(with_constant(scale, x), labels, len(classes), self.strength)
        counted = extract(segmenter(subject, scale, kernel), subject.weights, test)["counts"]
        counts, position = map(np.asarray, parallel.gather((counted.x, counted.position)))
        result = summary(counts[position >= 0], classes)
        return result._replace(numbers=result.numbers | {"size": subject.size})


def samples_of(subject: Subject) -> Samples:
    """Returns the images with masks of classes, or with those of what matters in them."""
    field = "segments" if data.has_field(subject.samples.bank.images.name, "segments") else "mask"
    return subject.samples_with(field)


def check_masks(images: data.Source) -> None:
    """Checks that masks, if the images have them, hide something in some of the first images.

    Raises:
        UserError: if they do not.
    """
    first = range(min(CHECKED, len(images)))
    if "mask" in images.fields and all(images[i]["mask"].all() for i in first):
        raise UserError(
            f"the protocol dense learns what is in the masks of images, but nothing is outside of those of the first "
            f"{len(first)} images of {images.name}; name images with alpha channels, or segments:/path, with --data"
        )


def classes_of(images: data.Source) -> tuple[str, ...]:
    """Returns the names of the classes of pixels."""
    field = images.fields.get("segments")
    return field.classes if isinstance(field, data.Segments) else ("background", *(images.classes or ("object",)))


def encoding_of(subject: Subject, weights, batch):
    """Returns the encoding of the centre crops of a raw batch, and the class of each pixel, int [B, H, W]; -1: none."""
    run = subject.run
    images = subject.center(subject.size)(batch)
    variables, images = run.method.seen(weights.params, weights.state, images)
    encoding = look(run.method.network, variables, "encoding", images)
    if "segments" in batch:
        truth = augment.center_segments(batch, subject.size, subject.crop).astype(jnp.int32)
        return encoding, jnp.where(truth == data.UNKNOWN, -1, truth)
    mask = augment.center_mask(batch, subject.size, subject.crop)
    inside = batch["label"] + 1 if subject.classes else jnp.ones_like(batch["label"])  # 0 is the background
    return encoding, jnp.where(mask, inside[:, None, None], 0)


def patches_of(subject: Subject, classes: int) -> Callable:
    """Returns a function for `extract`: features of `patches` [B, S, C], and the `labels` [B, S] of their pixels."""

    @functools.partial(jax.jit, out_shardings=parallel.batch_sharding(subject.mesh))
    def encode(weights, batch):
        encoding, truth = encoding_of(subject, weights, batch)
        return {"patches": encoding.patches, "labels": majority(truth, classes, encoding.grid)}

    return encode


def majority(truth: jax.Array, classes: int, grid: tuple[int, int]) -> jax.Array:
    """Returns the class that covers most of each patch, int [B, S], given that of each pixel; -1: unknown."""

    def covered(label):
        return jax.image.resize((truth == label).astype(jnp.float32), (len(truth), *grid), "linear")

    shares = jax.lax.map(covered, jnp.arange(-1, classes))  # class by class, which takes less memory
    return jnp.argmax(shares, axis=0).reshape(len(truth), -1) - 1


def segmenter(subject: Subject, scale: Scaling, kernel: jax.Array) -> Callable:
    """Returns a function for `extract`: pixel `counts` [B, K, 2], the intersection and the union of each class."""
    classes = kernel.shape[1]

    @functools.partial(jax.jit, out_shardings=parallel.batch_sharding(subject.mesh))
    def count(weights, batch):
        encoding, truth = encoding_of(subject, weights, batch)
        rows = widen(encoding.patches).reshape(-1, encoding.patches.shape[-1])
        scores = (with_constant(scale, rows) @ kernel).reshape(len(truth), *encoding.grid, classes)
        found = jnp.argmax(jax.image.resize(scores, (*truth.shape, classes), "linear"), axis=-1)

        def of_class(label):
            ours, theirs = (found == label) & (truth >= 0), truth == label
            return jnp.stack(
                [jnp.sum(x, axis=(1, 2), dtype=jnp.int32) for x in (ours & theirs, ours | theirs)], axis=-1
            )

        return {"counts": jax.lax.map(of_class, jnp.arange(classes)).swapaxes(0, 1)}

    return count


def summary(counts: np.ndarray, classes: tuple[str, ...]) -> Result:
    """Returns the result, given intersections and unions of each class in each test image, int [N, K, 2]."""
    both, either = counts.sum(axis=0, dtype=float).T
    iou = both[either > 0] / either[either > 0]
    pixels = counts[..., 0].sum(axis=1)  # that are right
    total = (counts[..., 1] + counts[..., 0]).sum(axis=1) / 2  # each pixel has one true and one predicted class
    result = scored("pixel_accuracy", pixels[total > 0] / total[total > 0])
    named = dict(zip(np.array(classes)[either > 0].tolist(), (100 * iou).tolist(), strict=True))
    return result._replace(numbers={"miou": 100 * float(iou.mean())} | result.numbers | {"iou": named})
