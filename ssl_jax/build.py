"""From a config to the parts of a run; whatever is wrong with the config is said here, before any long work."""

import dataclasses
import fnmatch
import functools
import json
import pathlib
import typing
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from ssl_jax import augment, checkpoint, data, networks, optimizer, schedule
from ssl_jax.config import flatten
from ssl_jax.errors import UserError, nearest
from ssl_jax.method import Batch, ClassCount, ImageCount, Method, PyTree, Schedule, Steps
from ssl_jax.methods import METHODS
from ssl_jax.teacher import Teacher

FROM_DATA = (ImageCount, ClassCount, augment.Grid | None)  # types of fields that the images or the recipe fill in
LABELS = ("auto", "required", "ignored")
POSITIVE = (
    "data.canvas",
    "data.images_per_class",
    "network.encoder.width",
    "network.*.output",
    "network.*.hidden",
    "network.*.layers",
    "network.*.prototypes",
    "evaluate.bank",
    "evaluate.test",
    "evaluate.crop",
    "evaluate.neighbours",
    "evaluate.temperature",
    "optimizer.clip",
    "checkpoint.keep",
    "log.every",
)
NOT_NEGATIVE = ("seed", "data.workers", "augment.small_views")


@dataclasses.dataclass(frozen=True)
class Run:
    """What a config means: all that training needs beside devices and a workdir."""

    config: ConfigDict
    source: data.Source  # the images to train on
    test: data.Source | None  # labelled images to evaluate on, None where there are none
    recipe: augment.Recipe
    method: Method
    steps: int  # of the whole run
    steps_per_epoch: int

    @property
    def batch_size(self) -> int:
        """Images per step, over all devices."""
        return self.config.batch_size

    @property
    def canvas(self) -> int:
        """Side in pixels of the square that the host fits images into."""
        return self.config.data.canvas or self.config.data.size

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; empty where labels are missing or ignored."""
        return () if self.test is None else self.test.classes

    def to_steps(self, duration: int | str) -> int:
        """Turns a duration into steps."""
        return schedule.duration(duration, self.steps_per_epoch, self.batch_size)

    @functools.cached_property
    def order(self) -> Callable[[int], np.ndarray]:
        """From a step to the positions of its batch in the source."""
        seed, each = self.config.seed, self.config.data.images_per_class
        if each is None:
            return data.Shuffled(seed, len(self.source), self.batch_size)
        return data.Balanced(seed, np.asarray(self.source.labels), self.batch_size, each)

    @functools.cached_property
    def example_batch(self) -> Batch:
        """The shapes of what a method reads."""
        raw = data.spec(self.source, self.batch_size, self.canvas)
        key = jax.eval_shape(jax.random.key, 0)
        return jax.eval_shape(functools.partial(augment.batch, self.recipe), key, raw, jnp.int32(0))

    @functools.cached_property
    def shapes(self) -> tuple[PyTree, Any]:
        """The shapes of the parameters and of the method's first state."""
        return jax.eval_shape(self.method.init, jax.eval_shape(jax.random.key, 0), self.example_batch)

    @functools.cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimiser of these parameters."""
        return self._optimizer[0]

    @functools.cached_property
    def learning_rate(self) -> Schedule:
        """The optimiser's learning rate as a function of the step."""
        return self._optimizer[1]

    @functools.cached_property
    def _optimizer(self):
        settings, (params, _) = plain(self.config.optimizer), self.shapes
        return optimizer.build(settings, self.steps, self.batch_size, self.steps_per_epoch, params)

    def evaluate_at(self, step: int) -> bool:
        """Whether the features are evaluated after this many steps."""
        return due(step, self.to_steps(self.config.evaluate.every), self.steps)

    def save_at(self, step: int) -> bool:
        """Whether a checkpoint is written after this many steps."""
        return due(step, self.to_steps(self.config.checkpoint.every), self.steps)


def due(step: int, every: int, last: int) -> bool:
    """Whether something that is done every so many steps, and after the last one, is done now."""
    return step == last or (every > 0 and step % every == 0)


def build(config: ConfigDict, source: data.Source | None = None, test: data.Source | None = None) -> Run:
    """Builds and checks the parts of a run.

    Args:
        config: as the files in `configs/` make them.
        source: images to train on, in place of those the config names.
        test: labelled images to evaluate on, beside a given `source`.

    Raises:
        UserError: something in it is unknown, missing or does not go together.
    """
    check_numbers(config)
    batch_size = config.batch_size
    recipe = build_recipe(config)
    method_class(config)
    network = networks.build(plain(config.network))
    check_sizes(recipe, networks.minimum_size(network.encoder))
    if batch_size < 1 or batch_size % jax.device_count():
        raise UserError(
            f"a batch of {batch_size} images cannot be split over {jax.device_count()} devices; "
            f"set batch_size to a multiple of {jax.device_count()}"
        )
    if source is None:
        source, test = open_sources(config)
    steps_per_epoch = len(source) // batch_size
    if not steps_per_epoch:
        raise UserError(f"{config.data.source} has {len(source)} images, fewer than batch_size {batch_size}; lower it")
    to_steps = functools.partial(schedule.duration, steps_per_epoch=steps_per_epoch, batch_size=batch_size)
    steps = config.steps if config.steps is not None else to_steps(f"{config.epochs} epochs")
    if steps < 1:
        raise UserError(f"the run has {steps} steps; set epochs or steps to more than 0")
    classes = source.classes or ()
    if method_class(config).needs_labels and not classes:
        raise UserError(
            f"the method {config.method.name} learns from labels, but {config.data.source} has none; "
            "sort its images into train/CLASS/ folders, or choose another method"
        )
    grid = next((group.grid for group in recipe.groups if group.grid), None)
    from_data = {ImageCount: len(source), ClassCount: len(classes), augment.Grid | None: grid}
    makers = {
        Schedule: functools.partial(schedule.build, steps=steps, to_steps=to_steps),
        Steps: to_steps,
        Teacher: functools.partial(open_teacher, space=recipe.space),
    }
    method = build_method(config, from_data, makers)
    run = Run(config, source, test, recipe, method, steps, steps_per_epoch)
    check_shapes(run)
    if recipe.covers and not config.data.masks:
        raise UserError("crops cannot hold a share of masks that are not read; set data.masks=true or augment.cover=0")
    return run


def build_recipe(config: ConfigDict) -> augment.Recipe:
    """Returns the augmentation that a config describes."""
    return augment.recipe(str(config.augment.recipe), config.data.size, **given(config.augment, without=("recipe",)))


def open_teacher(workdir: str, space: augment.Space) -> Teacher:
    """Opens the encoder of the run in a workdir at its latest checkpoint, for images in the student's colour space."""
    advice = "set method.teacher to the workdir of a trained run, as in --config.method.teacher=runs/byol"
    if not workdir:
        raise UserError(f"this method learns from a teacher; {advice}")
    folder = pathlib.Path(workdir).resolve()
    try:
        config = ConfigDict(json.loads((folder / "config.json").read_text()))
    except (OSError, ValueError) as error:
        raise UserError(f"there is no run in {workdir!r}, whose config.json cannot be read; {advice}") from error
    step = checkpoint.latest_good(folder / "checkpoints")
    if step is None:
        raise UserError(f"the run in {workdir!r} holds no checkpoint yet, or damaged ones alone; train it first")
    network = networks.build(plain(config.network))
    convert = functools.partial(augment.convert, space=space, other=build_recipe(config).space)
    return Teacher(network, folder / "checkpoints" / str(step), convert)


def open_sources(config: ConfigDict) -> tuple[data.Source, data.Source | None]:
    """Opens the images to train on and, where labels are there and wanted, those to evaluate on."""
    name, labels, masks = config.data.source, config.evaluate.labels, config.data.masks
    if labels not in LABELS:
        raise UserError(f"evaluate.labels cannot be {labels!r}; {nearest(labels, LABELS)}")
    source = data.open_source(name, "train", config.data.dir, masks)
    if labels == "ignored" or (source.classes is None and labels == "auto"):
        return source, None
    test = data.open_source(name, "test", config.data.dir, masks)  # colours beneath transparency, as in training
    usable = source.classes is not None and test is not None and test.classes is not None
    if labels == "required" and not usable:
        lack = "has no labels" if source.classes is None else "has no labelled test split"
        raise UserError(f"evaluate.labels is 'required', but {name} {lack}; set evaluate.labels=auto")
    return source, test if usable else None


def check_numbers(config: ConfigDict) -> None:
    """Complains about numbers too small to mean anything, where nothing else would."""
    for key, value in flatten(config).items():
        if any(fnmatch.fnmatch(key, pattern) for pattern in POSITIVE) and value is not None and not value > 0:
            raise UserError(f"{key} is {value}; set it to more than 0")
        if key in NOT_NEGATIVE and value is not None and value < 0:
            raise UserError(f"{key} is {value}; set it to 0 or more")


def check_sizes(recipe: augment.Recipe, least: int) -> None:
    """Complains about views that are smaller than one position of the encoder's last map."""
    for group in recipe.groups:
        if group.size < least:
            raise UserError(
                f"views of {group.size} pixels are smaller than the network's stride of {least}; "
                "raise data.size (or augment.small_size), or take a stem with a smaller stride"
            )


def check_shapes(run: Run) -> None:
    """Checks what needs shapes or steps: the method's hyper-parameters, the optimiser's rules, the durations."""
    run.method.check(run.example_batch)
    _ = run.optimizer
    run.order(0)
    for duration in (run.config.evaluate.every, run.config.checkpoint.every):
        run.to_steps(duration)


def hyper_parameters(cls: type[Method]) -> dict[str, Any]:
    """Returns the types of the fields of a method that its config group sets, by name."""
    types = typing.get_type_hints(cls)
    kinds = {field.name: types[field.name] for field in dataclasses.fields(cls)}
    return {name: kind for name, kind in kinds.items() if kind not in FROM_DATA and kind is not networks.Network}


def method_class(config: ConfigDict) -> type[Method]:
    """Returns the class that the config names, once its hyper-parameters are known to be that class's fields."""
    name = config.method.name
    if name not in METHODS:
        raise UserError(f"unknown method {name!r}; {nearest(name, METHODS)}")
    fields = hyper_parameters(METHODS[name])
    for key in set(config.method) - set(fields) - {"name"}:
        raise UserError(f"the method {name} has no hyper-parameter {key!r}; {nearest(key, fields)}")
    return METHODS[name]


def build_method(config: ConfigDict, from_data: Mapping, makers: Mapping) -> Method:
    """Makes the method: networks from the config groups of their fields' names, the rest by type.

    Args:
        config: of the run.
        from_data: the value of each type that the images or the recipe decide.
        makers: from a value in the config to that of a field, for each type that needs it.
    """
    cls = method_class(config)
    values = {key: value for key, value in plain(config.method).items() if key != "name"}
    types = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kind = types[field.name]
        if kind is networks.Network:
            values[field.name] = networks.build(plain(config[field.name]))
        elif kind in from_data:
            values[field.name] = from_data[kind]
        elif field.name in values and kind in makers:
            values[field.name] = makers[kind](values[field.name])
    return cls(**values)


def plain(config: ConfigDict) -> dict[str, Any]:
    """Returns a config as plain dicts, without what is not set."""
    return {
        key: plain(value) if isinstance(value, Mapping | ConfigDict) else value for key, value in given(config).items()
    }


def given(config: ConfigDict, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Returns the fields of a config that are set, but for some."""
    return {key: value for key, value in config.items() if value is not None and key not in without}
