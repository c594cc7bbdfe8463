"""What is evaluated: a network, the images it is evaluated on, and their features, each extracted once."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax import augment, data, parallel
from ssl_jax.evaluate.features import Features, Sample, extract, layers
from ssl_jax.evaluate.linear import COMPONENTS, principal_components
from ssl_jax.run import Run

RAW_SIZE = 32  # pixels, largest side of the images whose pixels are a baseline


class Samples(NamedTuple):
    """The images of an evaluation."""

    bank: Sample  # what is learned from
    test: Sample | None  # what is tested on; None: there is one split


class Pair(NamedTuple):
    """Features of both samples."""

    bank: Features
    test: Features | None


class Weights(NamedTuple):
    """The parameters and the state of a method."""

    params: Any
    state: Any


def draw_samples(run: Run, mesh: jax.sharding.Mesh, bank: data.Source, test: data.Source | None) -> Samples:
    """Returns fixed samples of at most `evaluate.bank` and `evaluate.test` images.

    A test split without labels is left out if the other has some.
    """
    settings = run.config.evaluate
    if test and bank.classes and not test.classes:
        test = None
    return Samples(Sample(run, mesh, bank, settings.bank), Sample(run, mesh, test, settings.test) if test else None)


def open_samples(run: Run, mesh: jax.sharding.Mesh, name: str, fields: Collection[str] = ()) -> Samples:
    """Opens the images of a source, with further fields of each."""
    folder = run.config.data.dir
    bank, test = (data.open_source(name, one, folder, fields, reading=run.reading) for one in ("train", "test"))
    assert bank is not None  # every source has a training split
    return draw_samples(run, mesh, bank, test)


def crop_and_flip(recipe: augment.Recipe, size: int) -> augment.Recipe:
    """Returns the augmentation of the papers' evaluations: a crop of 8 to 100 % of an image, flipped or not."""
    return dataclasses.replace(recipe, groups=(augment.Group((augment.View(),), size),))


@functools.cache
def center(recipe: augment.Recipe, size: int, fraction: float) -> Callable:
    """Returns the view of centre crops, see `augment.center`; the same view for equal arguments."""
    return lambda batch: augment.center(recipe, batch, size, fraction)


class Subject:
    """A network under evaluation.

    Args:
        run: what describes the network, its colour space and the size of its images.
        mesh: the devices.
        weights: with `params` and `state` of the method, on the mesh.
        samples: the images.
    """

    title = "trained"  # in tables

    def __init__(self, run: Run, mesh: jax.sharding.Mesh, weights: Any, samples: Samples):
        self.run, self.mesh, self.weights, self.samples = run, mesh, weights, samples
        self.size, self.crop = run.config.data.size, run.config.evaluate.crop
        self.chosen, self.known = layers(run.method, run.config.evaluate.get("feature"))
        self.kept: dict[Any, Any] = {}  # features by layer and size
        self.compiled: dict[Any, Any] = {}
        self.opened: dict[Any, Samples] = {}  # by source, canvas and further fields

    def replace(self, **changes: Any) -> "Subject":
        """Returns another subject with these attributes, which shares compiled programs and images but no features."""
        other = copy.copy(self)
        vars(other).update(changes, kept={})
        return other

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes of the images; empty if they have none."""
        return self.samples.bank.images.classes or ()

    def on(self, name: str) -> "Subject":
        """Returns the same network on the images of another source."""
        return self.replace(samples=self.open(name))

    def sized(self, size: int | None) -> "Subject":
        """Returns another subject whose images are read and seen with this side in pixels; None: as they are."""
        size = size or self.size
        return self.replace(size=size, run=dataclasses.replace(self.run, canvas=max(self.run.canvas, size)))

    def samples_with(self, *fields: str) -> Samples:
        """Returns the samples with further fields of each image, see `data.open_source`."""
        return self.open(self.samples.bank.images.name, *fields)

    def open(self, name: str, *fields: str) -> Samples:
        """Returns the samples of a source, which is opened once for all subjects of a run."""
        key = name, self.run.canvas, fields
        if key not in self.opened:
            self.opened[key] = open_samples(self.run, self.mesh, name, fields)
        return self.opened[key]

    def features(self, layer: str | None = None, size: int | None = None) -> Pair:
        """Returns the features of both samples, in the order of each.

        Args:
            layer: backbone, projection or hidden:K; None: what `evaluate.feature` chooses.
            size: side in pixels of the centre crops; None: `data.size`.
        """
        layer, size = layer or self.chosen, size or self.size
        if (layer, size) not in self.kept:
            wanted = self.known if layer in self.known else dict([self.number(layer)])
            bank, test = self.samples
            seen = {"bank": self.see(bank, self.center(size), wanted)}
            seen["test"] = self.see(test, self.center(size), wanted) if test else dict.fromkeys(wanted)
            self.kept |= {(name, size): Pair(seen["bank"][name], seen["test"][name]) for name in wanted}
        return self.kept[layer, size]

    def number(self, layer: str) -> tuple[str, int]:
        """Returns the name of a layer, and how many layers of the projector lead to it."""
        name, known = layers(self.run.method, layer)
        return name, known[name]

    def center(self, size: int) -> Callable:
        """Returns the centre crop of images at a size."""
        return center(self.run.recipe, size, self.crop)

    def see(
        self, sample: Sample, view: Callable, wanted: dict[str, int] | None = None, *given: jax.Array
    ) -> dict[str, Features]:
        """Returns features of a sample by layer, in one pass.

        Args:
            sample: the images.
            view: a function of a raw batch, and of what is given, to normalised images: what the network is shown.
            wanted: names of layers -> number of layers of the projector; None: the chosen one.
            given: to the view.
        """
        wanted = wanted or {self.chosen: self.known[self.chosen]}
        embed, shown = self.compile(self.represent(wanted), *wanted.items()), self.compile(view, view)
        return extract(lambda weights, batch: embed(weights, shown(batch, *given)), self.weights, sample)

    def compile(self, function: Callable, *key: Any) -> Callable:
        """Returns a function compiled once for a key, whose results are split over the devices by rows."""
        if key not in self.compiled:
            self.compiled[key] = jax.jit(function, out_shardings=parallel.batch_sharding(self.mesh))
        return self.compiled[key]

    def represent(self, wanted: dict[str, int]) -> Callable:
        """Returns a function from weights and images to features by layer."""
        method = self.run.method
        return lambda weights, images: {
            name: method.represent(weights.params, weights.state, images, n) for name, n in wanted.items()
        }

    def compact(self, x: jax.Array) -> jax.Array:
        """Returns features [N, D] as a classifier that is fitted to them gets them."""
        return x


class RawPixels(Subject):
    """The pixels of images, centred by their mean over the bank: what a representation must exceed."""

    title = "raw pixels"

    def __init__(self, other: Subject):
        super().__init__(other.run, other.mesh, None, other.samples)
        self.chosen, self.known, self.compiled = "pixels", {"pixels": 0}, other.compiled
        self.opened = other.opened

    def number(self, layer):
        return "pixels", 0

    def features(self, layer=None, size=None):
        return super().features("pixels", min(size or self.size, RAW_SIZE))  # as during training

    def see(self, sample, view, wanted=None, *given):
        raw = super().see(sample, view, None, *given)["pixels"]
        if "mean" not in self.kept:
            bank = super().see(self.samples.bank, self.center(min(self.size, RAW_SIZE)))["pixels"]
            self.kept["mean"] = jnp.mean(bank.x, axis=0, keepdims=True, where=bank.position[:, None] >= 0)
        return {"pixels": raw._replace(x=raw.x - self.kept["mean"])}

    def represent(self, wanted):
        def flatten(_, images):
            side = min(images.shape[1], RAW_SIZE)
            small = jax.image.resize(images, (len(images), side, side, images.shape[-1]), "linear")
            return {"pixels": small.reshape(len(images), -1).astype(jnp.float32)}

        return flatten

    def compact(self, x):
        if "basis" not in self.kept:
            bank, images = self.features().bank, len(self.samples.bank)
            count = min(COMPONENTS, x.shape[1], max(1, images // 10))  # fewer images do not determine more components
            rows = jnp.where(bank.position[:, None] >= 0, bank.x, 0)
            self.kept["basis"] = principal_components(rows, count)
        return x @ self.kept["basis"]
