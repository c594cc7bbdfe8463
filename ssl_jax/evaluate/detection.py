"""Detection: a small head on the features of patches finds what is where."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import jax
import numpy as np

from ssl_jax import augment, parallel
from ssl_jax.evaluate import tuning
from ssl_jax.evaluate.boxes import Matched, average_precisions, match, suppress
from ssl_jax.evaluate.confidence import middle
from ssl_jax.evaluate.detector import Detector, Head
from ssl_jax.evaluate.features import extract
from ssl_jax.evaluate.result import Protocol, Result
from ssl_jax.evaluate.subject import Subject
from ssl_jax.evaluate.tuning import Recipe
from ssl_jax.fields import not_negative, positive

OVERLAP = 0.6  # from which on two boxes of a class are duplicates
FOUND = 100  # boxes of an image at most
DRAWS = 200  # of test images, for the interval


@dataclasses.dataclass(frozen=True)
class Detection(Protocol):
    """A small anchor-free head on the last map of the network finds boxes.

    The network is frozen, or trained with its head (`tuned`); the row of the random initialisation is the same with
    random weights. Images, as in boxes:/path, are stretched to a square. `ap50` is the mean over the classes of average
    precision at an intersection over union of 0.5.

    Source: Tian et al. 2019 (FCOS, arXiv:1904.01355), with one level.
    """

    tuned: bool = False  # whether the network is trained too
    size: Annotated[int, positive] | None = None  # side in pixels that images are seen at; None: `data.size`
    epochs: Annotated[int, positive] = 30
    batch_size: Annotated[int, positive] = 32  # at most; all images if they are fewer
    rate: Annotated[float, positive] = 1e-3  # learning rate
    layer_decay: Annotated[float, positive] = 0.75  # of the learning rate, per block of a network that is tuned
    seed: Annotated[int, not_negative] = 0  # of the head and of the order

    needs: ClassVar[tuple[str, ...]] = ("test",)
    on_pixels: ClassVar[bool] = False

    def check(self, subject):
        tuning.check_single(subject.run)
        subject.sized(self.size).samples_with("boxes")

    def __call__(self, subject: Subject) -> Result:
        subject = subject.sized(self.size)
        bank, test = subject.samples_with("boxes")
        field: Any = bank.images.fields["boxes"]
        classes = field.classes
        view = augment.Group((augment.View(augment.Whole(), flip=0.0),), subject.size)
        views = dataclasses.replace(subject.run.recipe, groups=(view,))
        optimizer = {"name": "adamw", "learning_rate": self.rate, "scaling": "none", "warmup": "1 epochs"}
        recipe = Recipe(optimizer, self.epochs, self.batch_size, 0, self.layer_decay if self.tuned else 0.0)
        network = tuning.headless(subject.run.method.network)
        detector = Detector(network, Head(len(classes)), self.tuned)
        trained = tuning.train(subject, bank.images, detector, recipe, self.seed, views=views)
        found = extract(finder(trained, detector), trained.weights, test)
        position, boxes, truth = map(
            np.asarray, parallel.gather((found["found"].position, found["found"].x, found["truth"].x))
        )
        rows = position >= 0
        best = [suppress(one, OVERLAP)[:FOUND] for one in boxes[rows]]
        matched = match(best, [one[one[:, 4] >= 0] for one in truth[rows]], len(classes))
        result = summary(matched, classes)
        return result._replace(numbers=result.numbers | {"size": subject.size})


def finder(subject: Subject, detector: Detector) -> Callable:
    """Returns a function for `extract`: boxes that are `found` [B, n, 6], and the `truth` [B, M, 5]."""
    recipe = subject.run.recipe

    @functools.partial(jax.jit, out_shardings=parallel.batch_sharding(subject.mesh))
    def find(weights, batch):
        images = augment.views(recipe, jax.random.key(0), batch, 0)[0][:, 0]  # which draws nothing
        return {"found": detector.find(weights.params, weights.state, images), "truth": batch["boxes"]}

    return find


def summary(matched: Matched, classes: tuple[str, ...]) -> Result:
    """Returns `ap50` in percent, its 95 % `interval` over draws of test images, and that of each class, `ap`."""
    each = 100 * average_precisions(matched)
    images = len(matched.counts)
    drawn = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), DRAWS)
    drawn = drawn[drawn @ matched.counts.sum(axis=1) > 0]  # with boxes
    means = [100 * np.nanmean(average_precisions(matched, weight.astype(float))) for weight in drawn]
    numbers = {
        "ap50": float(np.nanmean(each)),
        "interval": list(middle(means)),
        "images": images,
        "boxes": int(matched.counts.sum()),
        "ap": {name: float(ap) for name, ap in zip(classes, each, strict=True) if not np.isnan(ap)},
    }
    return Result(numbers, draws=np.array([numbers["ap50"], *means]))
