"""Robustness: what a classifier of clean images makes of corrupted ones."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax import augment, parallel
from ssl_jax.augment.pipeline import finish
from ssl_jax.evaluate.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from ssl_jax.evaluate.linear import linear_classifier
from ssl_jax.evaluate.result import Protocol, Result, classified, scored
from ssl_jax.evaluate.subject import Subject
from ssl_jax.fields import every, one_of


@dataclasses.dataclass(frozen=True)
class Robustness(Protocol):
    """Logistic regression on features of clean training images, tested on corrupted test images.

    `top1` is the mean over all corruptions and severities, `clean_top1` the accuracy without.
    """

    corruptions: Annotated[tuple[str, ...], every(one_of(CORRUPTIONS))] = tuple(CORRUPTIONS)

    def __call__(self, subject: Subject) -> Result:
        bank, test = subject.features()
        classify = linear_classifier(subject.compact(bank.x), parallel.gather(bank.label), len(subject.classes))

        def accuracy(features) -> Result:
            return classified(classify(subject.compact(features.x)), features)

        clean = accuracy(test)
        rows, scores = [], []
        for name in self.corruptions:
            results = []
            view = corrupted(subject.run.recipe, name, subject.size, subject.crop, subject.run.config.seed)
            for severity in SEVERITIES:
                (seen,) = subject.see(subject.samples.test, view, None, jnp.int32(severity)).values()
                results.append(accuracy(seen))
            scores += [result.scores for result in results]
            of_each = zip(SEVERITIES, results, strict=True)
            rows.append({"corruption": name} | {f"severity {n}": result.numbers["top1"] for n, result in of_each})
        total = scored("top1", np.mean(scores, axis=0))
        more = {"clean_top1": clean.numbers["top1"], "clean_interval": clean.numbers["interval"], "rows": rows}
        return total._replace(numbers=total.numbers | more)


@functools.cache
def corrupted(recipe: augment.Recipe, name: str, size: int, fraction: float, seed: int) -> Callable:
    """Returns the view of corrupted centre crops, given the severity; their noise depends on seed and image alone."""

    def view(batch, severity):
        key = jax.random.fold_in(jax.random.key(seed), severity)
        keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(jnp.maximum(batch["index"], 0))
        images = augment.denormalize(recipe, augment.center(recipe, batch, size, fraction))
        return finish(recipe.space, augment.split(corrupt(name, images, severity, keys)))

    return view
