"""Fine-tuning: the whole network is trained on with labels, of all training images or of a few of each class."""

import dataclasses
from typing import Annotated, ClassVar

import numpy as np

from ssl_jax import data
from ssl_jax.errors import UserError
from ssl_jax.evaluate import tuning
from ssl_jax.evaluate.logistic import draw
from ssl_jax.evaluate.result import Protocol, Result
from ssl_jax.evaluate.subject import Subject
from ssl_jax.evaluate.tuning import Recipe
from ssl_jax.fields import every, fraction, not_negative, one_of, positive
from ssl_jax.losses import cross_entropy
from ssl_jax.method import ClassCount, Method, apply
from ssl_jax.method import Result as Loss

ADAMW = {"name": "adamw", "learning_rate": 5e-4, "weight_decay": 0.05, "warmup": "5 epochs"}
LARS = {"name": "lars", "variant": "simclr", "learning_rate": 0.005, "scaling": "sqrt"}
RECIPES = {
    "adamw": Recipe(ADAMW, 30, 256, layer_decay=0.75),
    # arXiv:2111.06377, table 9, for ViT-B; without mixup, cutmix and RandAugment
    "mae": Recipe(ADAMW, 100, 1024, layer_decay=0.65, smoothing=0.1),
    # arXiv:2006.10029, appendix C.1, and the authors' code
    "simclr_v2": Recipe(LARS, 60, 1024, layers=1),
}


@dataclasses.dataclass(frozen=True)
class Tuning(Protocol):
    """What fine-tuning and distillation share."""

    recipe: Annotated[str, one_of(RECIPES)] = "adamw"
    epochs: Annotated[int, positive] | None = None  # None, as below: the recipe's
    batch_size: Annotated[int, positive] | None = None  # at most; all images if they are fewer
    rate: Annotated[float, positive] | None = None  # learning rate
    layers: Annotated[int, not_negative] | None = None  # of the projector that are kept below the classifier
    layer_decay: Annotated[float, positive] | None = None  # of the learning rate, per block
    seed: Annotated[int, not_negative] = 0  # of the images that are drawn, of order and crops

    on_pixels: ClassVar[bool] = False

    def check(self, subject):
        tuning.check_single(subject.run)
        hidden = getattr(subject.run.method.network.projector, "layers", 1) - 1
        if self.filled.layers > hidden:
            raise UserError(
                f"{self.filled.layers} layers of the projector are to be kept, but it has {hidden} hidden ones; set "
                "layers=0 or another number"
            )

    @property
    def filled(self) -> Recipe:
        """The recipe, with what is set instead."""
        recipe = RECIPES[self.recipe]
        given = {name: getattr(self, name) for name in ("epochs", "batch_size", "layers", "layer_decay")}
        recipe = recipe._replace(**{name: value for name, value in given.items() if value is not None})
        rate = {} if self.rate is None else {"learning_rate": self.rate}
        return recipe._replace(optimizer=recipe.optimizer | rate)


@dataclasses.dataclass(frozen=True)
class Finetune(Tuning):
    """Fine-tunes the network on balanced, seeded parts of the training images, or on given sets.

    The row of the random initialisation is the same network trained from scratch. `top1` is that of the last part.
    """

    shares: Annotated[tuple[float, ...], every(fraction)] = (0.01, 0.1, 1.0)  # of the training images of each class
    sources: tuple[str, ...] = ()  # instead of shares: tfds:imagenet2012_subset/1pct has the papers' own list

    def check(self, subject):
        super().check(subject)
        for name, source in self.parts(subject).items():
            if source.classes != subject.classes:
                raise UserError(
                    f"--finetune.sources has {name}, whose classes are not those of the images that are evaluated on; "
                    "name a part of these, or set --data to the others"
                )

    def __call__(self, subject: Subject) -> Result:
        rows = []
        for name, source in self.parts(subject).items():
            result = tuning.accuracy(fine_tune(subject, source, self.filled, self.seed))
            rows.append({"part": name, "labels": len(source)} | result.numbers)
        return result._replace(numbers=result.numbers | {"rows": rows})

    def parts(self, subject: Subject) -> dict[str, data.Source]:
        """Returns what the network is fine-tuned on, by name."""
        if self.sources:
            folder = subject.run.config.data.dir
            reading = subject.run.reading
            opened = {name: data.open_source(name, "train", folder, reading=reading) for name in self.sources}
            return {name: source for name, source in opened.items() if source is not None}
        bank = subject.samples.bank.images
        return {f"{100 * fraction:g} %": part(bank, fraction, self.seed) for fraction in self.shares}


def part(source: data.Source, fraction: float, seed: int) -> data.Source:
    """Returns a share of the labelled images of a source, as many of each class, at least one."""
    labels = np.asarray(source.labels)
    counts = np.bincount(labels[labels >= 0])
    least = int(counts[counts > 0].min())
    if fraction == 1:
        return data.Subset(source, np.flatnonzero(labels >= 0))
    shots = max(1, round(fraction * counts.sum() / np.sum(counts > 0)))
    return data.Subset(source, np.sort(draw(labels, min(shots, least), seed)))


def fine_tune(subject: Subject, source: data.Source, recipe: Recipe, seed: int) -> Subject:
    """Returns the network of a subject, fine-tuned on labelled images."""
    classes = len(subject.classes)
    network = tuning.classifier(subject.run.method.network, classes, recipe.layers)
    return tuning.train(subject, source, Classifier(network, ClassCount(classes), recipe.smoothing), recipe, seed)


@dataclasses.dataclass(frozen=True)
class Classifier(Method):
    """Cross-entropy of a network whose projector ends in an output for each class."""

    classes: ClassCount
    smoothing: float = 0.0
    needs_labels = True

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        loss = cross_entropy(outputs.projection[:, 0], batch["label"], self.smoothing)
        return Loss(loss, self.State(stats), {}, outputs.features[:, 0], outputs.features)
