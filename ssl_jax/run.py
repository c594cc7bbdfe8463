"""A run: the parts that a config describes."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from ssl_jax import augment, data, optimizer, parallel, resolution, schedule
from ssl_jax.fields import set_fields, to_dict
from ssl_jax.method import Batch, Method, PyTree, Schedule


@dataclasses.dataclass(frozen=True)
class Run:
    """A config and the parts built from it: all that training needs except devices and a workdir."""

    config: ConfigDict
    source: data.Source  # the images to train on
    test: data.Source | None  # images with labels or captions to evaluate on, if there are any
    recipes: tuple[augment.Recipe, ...]  # one, or one per size in `config.resolution` if each step has one size
    method: Method
    steps: int  # of the whole run
    steps_per_epoch: int
    canvas: int  # side in pixels of the square that the host fits images into
    labelled: data.Source | None = None  # images to learn from in evaluation; None: those to train on

    @property
    def batch_size(self) -> int:
        """Images per step, over all devices."""
        return self.config.batch_size

    @property
    def recipe(self) -> augment.Recipe:
        """The augmentation, if sizes change from step to step at the largest."""
        return self.recipes[-1]

    @functools.cached_property
    def resolution(self) -> resolution.Settings:
        """The sizes of the large views."""
        return resolution.Settings(**to_dict(self.config.resolution))

    @functools.cached_property
    def mesh_sizes(self) -> parallel.MeshSizes:
        """The sizes of the axes of the mesh."""
        return parallel.MeshSizes(**to_dict(self.config.mesh))

    @functools.cached_property
    def recipe_at(self) -> Callable[[int], int]:
        """A function from a step to the position of its recipe."""
        return resolution.schedule(self.resolution, self.config.seed, self.steps_per_epoch, self.to_steps)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; empty if labels are missing or ignored."""
        if self.test is None or self.bank.classes is None or self.config.evaluate.labels == "ignored":
            return ()
        return self.test.classes or ()

    @property
    def bank(self) -> data.Source:
        """The images that evaluation learns from: neighbours, the linear classifier."""
        return self.labelled or self.source

    @property
    def probed(self) -> bool:
        """Whether a probe learns online: the images to train on have the classes of the evaluation."""
        return bool(self.classes) and self.labelled is None

    @property
    def reading(self) -> data.Reading:
        """How further images are read as those of the run."""
        settings = self.config.data
        return data.Reading(self.canvas, self.canvas, settings.max_pixels, settings.host_bytes)

    def to_steps(self, duration: int | str) -> int:
        """Converts a duration to steps."""
        return schedule.duration(duration, self.steps_per_epoch, self.batch_size)

    @functools.cached_property
    def order(self) -> data.Order:
        """The images of the batch of each step."""
        seed, each = self.config.seed, self.config.data.images_per_class
        if each is not None:
            return data.Balanced(seed, np.asarray(self.source.labels), self.batch_size, each)
        passes = len(self.recipes) if self.resolution.mode == "repeat" else 1
        return data.Shuffled(seed, len(self.source), self.batch_size, passes)

    @functools.cached_property
    def example_batch(self) -> Batch:
        """The shapes of a batch as methods see it."""
        return self.example_batch_of(-1)

    def example_batch_of(self, number: int) -> Batch:
        """Returns the shapes of a batch that one of the recipes makes."""
        raw = data.spec(self.source, self.batch_size, self.canvas)
        key = jax.eval_shape(jax.random.key, 0)
        return jax.eval_shape(functools.partial(augment.batch, self.recipes[number]), key, raw, jnp.int32(0))

    @functools.cached_property
    def shapes(self) -> tuple[PyTree, Any]:
        """The shapes of the parameters and of the method's state."""
        return jax.eval_shape(self.method.init, jax.eval_shape(jax.random.key, 0), self.example_batch)

    @functools.cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimiser of the parameters."""
        return self._optimizer[0]

    @functools.cached_property
    def learning_rate(self) -> Schedule:
        """The optimiser's learning rate as a function of the step."""
        return self._optimizer[1]

    @functools.cached_property
    def _optimizer(self):
        settings, (params, _) = to_dict(self.config.optimizer), self.shapes
        return optimizer.build(settings, self.steps, self.batch_size, self.steps_per_epoch, params)

    def evaluate_at(self, step: int) -> bool:
        """Returns whether the features are evaluated after this many steps."""
        return due(step, self.to_steps(self.config.evaluate.every), self.steps)

    def save_at(self, step: int) -> bool:
        """Returns whether a checkpoint is written after this many steps."""
        return due(step, self.to_steps(self.config.checkpoint.every), self.steps)


def reading(config: ConfigDict, recipes: Sequence[augment.Recipe]) -> data.Reading:
    """Returns what a run reads of images: enough for each crop to have as many pixels as its view, if the image has."""
    settings = config.data
    least = settings.canvas or max(settings.size, *(config.resolution.sizes or ()), 0)
    needed = (
        (group.grid.size if group.grid else group.size) / math.sqrt(view.crop.area[0])
        for recipe in recipes
        for outer in recipe.groups
        for group in outer.buckets or (outer,)
        for view in group.views
    )
    wanted = settings.canvas or max(least, round(max(needed)))
    return data.Reading(wanted, least, settings.max_pixels, settings.host_bytes)


def due(step: int, every: int, last: int) -> bool:
    """Returns whether a step is the last or a multiple of `every`; with `every` 0, only the last is due."""
    return step == last or (every > 0 and step % every == 0)


def build_recipes(config: ConfigDict) -> tuple[augment.Recipe, ...]:
    """Returns the augmentation that a config describes, see `Run.recipes`."""
    changes = set_fields(config.augment, without=("recipe",))
    dtype = config.network.dtype or "float32"

    def make(size, *crop):
        own = {"crop": crop[0]} if crop else {}
        return augment.recipe(str(config.augment.recipe), size, dtype=dtype, **changes | own)

    settings = resolution.Settings(**to_dict(config.resolution))
    settings.check(config.data.size)
    return resolution.recipes(settings, make, config.data.size)
