"""Builds a run from a config, and reports every mistake in the config before any long work."""

import functools
import os
import shutil
from collections.abc import Mapping
from fractions import Fraction

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssl_jax import augment, choices, data, networks, parallel, resolution, schedule, schema
from ssl_jax.errors import UserError
from ssl_jax.fields import fields, to_dict
from ssl_jax.method import ClassCount, ImageCount, Method, Schedule, Steps
from ssl_jax.monitor.environment import device_memory, host_memory
from ssl_jax.numeric import size_in_bytes
from ssl_jax.pretrained import open_teacher
from ssl_jax.rules import gradient_norms
from ssl_jax.run import Run, build_recipes, reading
from ssl_jax.teacher import Teacher
from ssl_jax.words import number_of

__all__ = ["Run", "build", "check_memory", "check_shared_memory", "count_steps"]

PER_CORE = 64  # worker processes; more cannot be meant


def build(
    config: ConfigDict,
    source: data.Source | None = None,
    test: data.Source | None = None,
    photos: ConfigDict | None = None,
    devices: int | None = None,
) -> Run:
    """Builds and checks the parts of a run.

    Args:
        config: a config from `config.load`.
        source: the images to train on, instead of those that the config names.
        test: the labelled images to evaluate on, if `source` is given.
        photos: the config to use instead if the images are colour photographs.
        devices: the number of devices to train on; None: those of all processes.

    Raises:
        UserError: if a value of the config is unknown or missing, or values do not fit together.
    """
    schema.check(config)
    possible = [recipe for one in (config, photos) if one is not None for recipe in checked_recipes(one)]
    method_class = schema.method_class(config)
    shards = parallel.MeshSizes(**to_dict(config.mesh)).row_shards(devices or jax.device_count())
    check_batch(config, method_class.least_batch, shards)
    check_chunks(config, shards)
    opened = source is None
    if opened:
        wanted = ("mask",) * config.data.masks + ("text",) * method_class.needs_text
        where = config.data.source, config.evaluate.labels, config.data.dir
        source, test = data.open_splits(
            *where, wanted, config.data.context, config.data.split, reading(config, possible)
        )
    config = choices.by_images(config, photos, source)
    recipes = build_recipes(config)
    recipe = recipes[-1]
    needs = reading(config, recipes)
    canvas = needs.canvas(source.survey.largest) if opened else config.data.canvas or needs.least
    labelled = None
    if config.evaluate.source:
        labelled, test = open_evaluation(config, needs._replace(wanted=canvas, least=canvas))
    if method_class.needs_labels and not source.classes:
        raise UserError(
            f"the method {config.method.name} needs labels, but {config.data.source} has none{source.survey.reason}; "
            "sort its images into train/CLASS/ folders, or choose another method"
        )
    steps, steps_per_epoch = count_steps(config, len(source))
    to_steps = functools.partial(schedule.duration, steps_per_epoch=steps_per_epoch, batch_size=config.batch_size)
    grid = next((group.grid for group in recipe.groups if group.grid), None)
    from_data = {ImageCount: len(source), ClassCount: len(source.classes or ()), augment.Grid | None: grid}
    makers = {
        Schedule: functools.partial(schedule.build, steps=steps, to_steps=to_steps),
        Steps: to_steps,
        Teacher: functools.partial(open_teacher, space=recipe.space),
    }
    method = build_method(config, method_class, from_data, makers)
    run = Run(config, source, test, recipes, method, steps, steps_per_epoch, canvas, labelled)
    check_run(run, shards)
    if recipe.covers and not config.data.masks:
        raise UserError("augment.cover needs masks, but data.masks is false; set data.masks=true or augment.cover=0")
    return run


def open_evaluation(config: ConfigDict, how: data.Reading) -> tuple[data.Source, data.Source]:
    """Opens both splits of the images that `evaluate.source` names.

    Raises:
        UserError: if they have no labels.
    """
    name = config.evaluate.source
    fields = ("text",) * schema.method_class(config).needs_text
    bank, test = data.open_splits(name, "auto", config.data.dir, fields, config.data.context, reading=how)
    if bank.classes is None or test is None or test.classes is None:
        raise UserError(
            f"evaluate.source is {name!r}, which has no labelled training and test images; name a set with both, such "
            "as a folder with train/CLASS/ and test/CLASS/, or leave it unset"
        )
    return bank, test


def build_method(config: ConfigDict, cls: type[Method], from_data: Mapping, makers: Mapping) -> Method:
    """Builds the method: networks and decoders from the config group of their field's name, other fields by their type.

    Args:
        config: the config of the run.
        cls: the class of the method.
        from_data: type -> value, for fields that the images or the recipe determine.
        makers: type -> function from a value in the config to that of the field.

    Raises:
        UserError: if a field without a default is not set.
    """
    groups = to_dict(config)
    values = {key: value for key, value in groups["method"].items() if key != "name"}
    for name, field in fields(cls).items():
        if field.annotation in networks.KINDS:
            values[name] = networks.make(field.annotation, groups, name)
        elif field.annotation in from_data:
            values[name] = from_data[field.annotation]
        elif field.plain in makers and (name in values or field.plain is Teacher):
            values[name] = makers[field.plain](values.get(name))
        elif field.required and name not in values:
            raise UserError(f"method.{name} is not set; set it, as in --config.method.{name}=VALUE")
    return cls(**values)


def count_steps(config: ConfigDict, images: int) -> tuple[int, int]:
    """Returns the number of steps of a run, and of an epoch."""
    steps_per_epoch = images // config.batch_size
    if not steps_per_epoch:
        raise UserError(
            f"{config.data.source} has {number_of(images, 'image')}, fewer than batch_size {config.batch_size}; lower "
            "batch_size"
        )
    steps = config.steps
    if steps is None:
        steps = int(Fraction(str(config.epochs)) * steps_per_epoch)  # 0.29 of 100 steps are 29
    if steps < 1:
        raise UserError(f"the run has {steps} steps; set epochs or steps to more than 0")
    if steps >= 2**31:
        raise UserError(f"the run has {steps:,} steps, more than a 32-bit number counts; set epochs or steps to less")
    return steps, steps_per_epoch


def check_batch(config: ConfigDict, least: int, shards: int) -> None:
    """Checks that the batch has the least number of images, and divides evenly over the devices."""
    batch_size = config.batch_size
    if batch_size < least:
        raise UserError(
            f"batch_size is {batch_size}, but the method {config.method.name} compares the images of a batch with each "
            f"other; set batch_size to {least} or more"
        )
    if batch_size % shards:
        raise UserError(
            f"a batch of {number_of(batch_size, 'image')} cannot be split over {number_of(shards, 'device')}; "
            f"set batch_size to a multiple of {shards}"
        )


def check_memory(run: Run) -> None:
    """Checks that all devices together could hold the state of training, gradients and a batch; a step needs more.

    Raises:
        UserError: if not.
    """
    each = device_memory()
    there = each * jax.device_count() if each else host_memory() * jax.process_count()
    params = run.shapes[0]
    held = run.shapes, params, jax.eval_shape(run.optimizer.init, params)  # the second are the gradients
    weights, views = size_in_bytes(held), size_in_bytes(run.example_batch)
    if weights + views > there:
        said = [f"{number / 2**30:,.1f} GiB" for number in (weights, views, there)]
        raise UserError(
            "parameters, gradients, the optimizer and the method's state take {} and the views of a batch {}, of {} of "
            "memory in all; lower the network's widths, data.size or batch_size, or use more devices".format(*said)
        )


def check_shared_memory(run: Run, folder: str = "/dev/shm") -> None:
    """Checks that worker processes are not too many, and have enough shared memory, in which they pass batches on."""
    workers, cores = run.config.data.workers, os.cpu_count() or 1
    if workers > PER_CORE * cores:
        raise UserError(
            f"data.workers is {workers}, and this host has {number_of(cores, 'core')}; set it to {cores} or less"
        )
    if not workers or data.fits(run.source, run.canvas, run.config.data.device_bytes) or not os.path.isdir(folder):
        return
    rows = run.batch_size // jax.process_count()
    batch = size_in_bytes(data.spec(run.source, rows, run.canvas))
    needed = batch * (3 * workers + 1)  # each reads, keeps and hands over one; the last is copied
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{number_of(workers, 'process')} to read batches of {number_of(rows, 'image')} take about "
            f"{needed / 2**20:,.0f} MiB of {folder}, and {free / 2**20:,.0f} are free; set data.workers lower "
            f"(0: threads), or enlarge it, as with docker run --shm-size={needed / 2**20 + 64:.0f}m"
        )


def check_buckets(run: Run, shards: int) -> None:
    """Checks that each device has equally many images of every size in a batch of several."""
    rows, sizes = run.batch_size // shards, run.resolution.sizes
    if sizes and run.resolution.mode == "mixed" and rows % len(sizes):
        raise UserError(
            f"each device has {number_of(rows, 'image')} of the batch, which {len(sizes)} sizes cannot "
            f"share equally; set batch_size to a multiple of {shards * len(sizes)}"
        )


def check_chunks(config: ConfigDict, shards: int) -> None:
    """Checks that the chunks of each network divide each device's share of the batch."""
    rows = config.batch_size // shards
    for name in schema.network_names(schema.method_class(config)):
        chunks = networks.build(to_dict(config[name])).chunks
        if rows % chunks:
            raise UserError(
                f"{name}.chunks is {chunks}, but each device has {number_of(rows, 'image')} of the batch; "
                f"set {name}.chunks to a divisor of {rows}"
            )


def checked_recipes(config: ConfigDict) -> tuple[augment.Recipe, ...]:
    """Returns the recipes of a config, and checks that each encoder takes images of every size that it will see."""
    recipes = build_recipes(config)
    *others, last = ({one.size for group in recipe.groups for one in group.buckets or (group,)} for recipe in recipes)
    sizes = last.union(*others, config.evaluate.sizes)
    for name in schema.network_names(schema.method_class(config)):
        encoder = networks.build(to_dict(config[name])).encoder
        least = networks.minimum_size(encoder)
        if min(sizes) < least:
            raise UserError(
                f"views of {min(sizes)} pixels are smaller than the network's stride of {least}; raise data.size, "
                "augment.small_size, resolution.sizes or evaluate.sizes, or set a stem with a smaller stride"
            )
        for size in sorted(sizes - last):  # those of the last recipe are in the example batch
            image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
            jax.eval_shape(encoder.init, jax.eval_shape(jax.random.key, 0), image)
    return recipes


def check_patches(run: Run) -> None:
    """Checks that the network cuts images into each of `resolution.patches` with the same parameters."""
    settings = run.resolution
    if not settings.patches:
        return
    if not isinstance(run.method.network.encoder, networks.ViT):
        raise UserError(
            "resolution.patches needs a vision transformer; leave it out, or set network.encoder.name, as to vit_tiny"
        )
    shapes = jax.tree.map(lambda x: x.shape, run.shapes[0])
    for number, (size, patch) in enumerate(zip(settings.sizes, settings.patches, strict=True)):
        if size % patch:
            raise UserError(f"resolution.sizes has {size} pixels, which patches of {patch} pixels do not divide")
        method = resolution.with_patches(run.method, settings, number)
        batch = run.example_batch_of(number)
        params, _ = jax.eval_shape(method.init, jax.eval_shape(jax.random.key, 0), batch)
        if jax.tree.map(lambda x: x.shape, params) != shapes:
            raise UserError(
                f"the method {run.config.method.name} predicts patches of one size; leave resolution.patches out"
            )


def check_run(run: Run, shards: int) -> None:
    """Checks what depends on shapes or steps: hyper-parameters, patterns, durations, `evaluate.feature`."""
    check_buckets(run, shards)
    check_patches(run)
    run.method.check(run.example_batch)
    _ = run.optimizer, run.recipe_at
    params, _ = run.shapes
    jax.eval_shape(functools.partial(gradient_norms, patterns=run.config.log.gradients), params)
    run.order(0)
    for duration in (run.config.evaluate.every, run.config.checkpoint.every):
        run.to_steps(duration)
    feature = run.config.evaluate.feature or run.method.feature
    if feature.startswith("hidden:"):
        projector = run.method.network.projector
        layers = getattr(projector, "layers", 1) - 1
        if int(feature.removeprefix("hidden:")) > layers:
            raise UserError(
                f"evaluate.feature is {feature!r}, but network.projector has {number_of(layers, 'hidden layer')}; "
                "set it to backbone or projection"
            )
