"""The schema of configs: groups and their fields, generated from the dataclasses that they fill."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from ml_collections import ConfigDict

from ssl_jax import augment, data, networks, optimizer, parallel, resolution
from ssl_jax.errors import UserError, suggest
from ssl_jax.fields import (
    Field,
    Rule,
    all_lasting,
    fault,
    fields,
    fraction,
    lasting,
    not_negative,
    one_of,
    positive,
    set_fields,
)
from ssl_jax.method import ClassCount, ImageCount, Method
from ssl_jax.methods import METHODS

FROM_DATA = (ImageCount, ClassCount, augment.Grid | None)  # types of fields that the images or the recipe determine

FEATURE = Rule(
    lambda text: re.fullmatch(r"backbone|projection|hidden:[1-9]\d*", text) is not None,
    "backbone, projection or hidden:K",
)


PART = Rule(lambda value: 0 <= value < 1, "a share from 0 to less than 1, such as 0.1")

SENTENCES = Rule(
    lambda texts: len(texts) > 0 and all(isinstance(text, str) and text.count("{}") == 1 for text in texts),
    "texts with {} for the name of a class, such as ('a photo of a {}',)",
)
# Those of the README of CLIP (arXiv:2103.00020) that need not be photographs apart, and the plain one.
PROMPTS = ("a photo of a {}.", "a bad photo of the {}.", "a photo of the large {}.", "a photo of the small {}.")


BITS = Rule(lambda value: value < 2**32, "less than 4294967296, 32 bits")


@dataclasses.dataclass(frozen=True)
class Training:
    """The keys of a config outside its groups."""

    seed: Annotated[int, not_negative, BITS] = 0
    epochs: Annotated[float, positive] = 1.0  # of the training images
    minutes: Annotated[float, positive] | None = None  # of training on this machine, in place of epochs
    steps: Annotated[int, positive] | None = None  # takes precedence over both
    batch_size: Annotated[int, positive] = 256  # images, over all devices


@dataclasses.dataclass(frozen=True)
class Data:
    """The images."""

    source: str = "embedded:fashion_mnist"
    dir: str | None = None  # of prepared TensorFlow Datasets sets, local or gs://; None: their default
    split: Annotated[float, PART] = 0.0  # of the images of each class that are held out, if no others are for tests
    changed: Annotated[str, one_of(data.CHANGED)] = "refuse"  # what to do if a run was trained on other images
    size: Annotated[int, positive] = 28  # pixels, side of the (large) views
    canvas: Annotated[int, positive] | None = None  # pixels the host fits images into; None: what the crops need
    max_pixels: Annotated[int, positive] = data.MAX_PIXELS  # of an image; larger ones are left out
    masks: bool = False  # whether to read masks of what matters in an image: in a folder, its alpha channel
    context: Annotated[int, Rule(lambda value: value > 2, "3 or more")] = 77  # tokens of a caption, with start and end
    images_per_class: Annotated[int, positive] | None = None  # in a batch, for losses over pairs; None: any images
    workers: Annotated[int, not_negative] = 0  # processes that read images; 0: threads
    device_bytes: int = 2**30  # a smaller set is kept on the device
    host_bytes: int = 2**31  # smaller sets, and samples for evaluation, are decoded once and kept


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Evaluation during training."""

    every: Annotated[str, lasting] = "4 epochs"
    source: str | None = None  # labelled images to evaluate on, instead of the images to train on
    labels: str = "auto"  # auto, required or ignored
    feature: Annotated[str, FEATURE] | None = None  # backbone, projection or hidden:K; None: what the paper uses
    bank: Annotated[int, positive] = 10_000  # number of training images to search for neighbours
    test: Annotated[int, positive] = 50_000  # largest number of test images
    crop: Annotated[float, fraction] = 1.0  # of the centre crop, as a fraction of the shorter side
    sizes: Annotated[tuple[int, ...], resolution.ascending] = ()  # pixels at which the end of a run compares features
    neighbours: Annotated[int, positive] = 20
    temperature: Annotated[float, positive] = 0.07  # of the neighbours' votes
    prompts: Annotated[tuple[str, ...], SENTENCES] = PROMPTS  # what names a class for methods that learn from captions


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Checkpoints."""

    every: Annotated[str, lasting] = "1 epochs"
    keep: Annotated[int, positive] = 2  # latest checkpoints to keep; the best by k-NN is kept too


def are_patterns(values: tuple) -> bool:
    """Returns whether all values are regular expressions."""
    try:
        return all(re.compile(value) for value in values)
    except (re.error, TypeError):
        return False


PATTERNS = Rule(are_patterns, "regular expressions, such as ('encoder','projector')")
SOME = Rule(bool, PATTERNS.says)


@dataclasses.dataclass(frozen=True)
class Log:
    """Logging."""

    every: Annotated[int, positive] = 10  # steps
    gradients: Annotated[tuple, PATTERNS] = ()  # regular expressions of parameter paths; each logs a norm
    wandb: bool = False


TAKE = ("encoder",)
INIT = {
    "from": Field(str),  # a workdir or an .npz file of weights to start from
    "take": Field(Annotated[tuple, PATTERNS, SOME], TAKE),  # regular expressions of the paths in the network to take
}
PLAIN = {  # filled with defaults
    "": Training,
    "data": Data,
    "resolution": resolution.Settings,
    "evaluate": Evaluate,
    "checkpoint": Checkpoint,
    "log": Log,
    "mesh": parallel.MeshSizes,
}
NAME = {"name": Field(str)}


def groups(config: Mapping[str, Any] | ConfigDict) -> dict[str, dict[str, Field]]:
    """Returns the fields of each group of a config, by its dotted name.

    Args:
        config: the config; the fields depend on the names of its method, encoders and heads.

    Raises:
        UserError: if the method is unknown.
    """
    method = method_class(config)
    found = {place: fields(cls) for place, cls in PLAIN.items()}
    found |= {
        "init": INIT,
        "augment": {"recipe": Field(str)} | augment.settings(),
        "optimizer": fields(optimizer.Settings),
        "method": NAME | hyper_parameters(method),
    }
    for name, kind in made_by_group(method).items():
        found |= network(config.get(name) or {}, name) if kind is networks.Network else {name: networks.options(kind)}
    for place in tuple(found):  # a value that is given as a schedule
        for name in found[place]:
            key = f"{place}.{name}"
            if isinstance(lookup(config, key), Mapping | ConfigDict):
                found[key] = schedule(found[place][name].rules)
    return found


def schedule(rules: tuple[Rule, ...]) -> dict[str, Field]:
    """Returns the fields of a schedule whose values follow some rules."""
    number: Any = float
    for rule in rules:
        number = Annotated[number, rule]
    ends = {name: Field(number) for name in ("start", "end")}
    return {"schedule": Field(str), **ends, "duration": Field(Annotated[str, lasting])}


def network(config: Mapping[str, Any] | ConfigDict, place: str) -> dict[str, dict[str, Field]]:
    """Returns the groups of a network: its own fields, and the fields of every encoder and head it may name."""
    found = {place: networks.settings()}
    for part, table in networks.PARTS.items():
        possible = {name: field for factory in table.values() for name, field in networks.options(factory).items()}
        named = networks.options(table.get(networks.name_of(part, config.get(part) or {}), dict))
        found[f"{place}.{part}"] = NAME | {name: named.get(name, Field(possible[name].annotation)) for name in possible}
    return found


def method_class(config: Mapping[str, Any] | ConfigDict) -> type[Method]:
    """Returns the class of the method that a config names."""
    name = (config.get("method") or {}).get("name")
    if name not in METHODS:
        raise UserError(f"unknown method {name!r}; {suggest(str(name), METHODS)}")
    return METHODS[name]


def hyper_parameters(method: type[Method]) -> dict[str, Field]:
    """Returns the fields of a method that its config group can set."""
    return {
        name: field
        for name, field in fields(method).items()
        if field.annotation not in FROM_DATA and field.annotation not in networks.KINDS
    }


def remembers_images(method: Method) -> bool:
    """Returns whether the state of a method has rows that belong to images."""
    return bool(method.memories) or any(field.annotation is ImageCount for field in fields(type(method)).values())


def made_by_group(method: type[Method]) -> dict[str, type]:
    """Returns the types of a method's fields that are each made from the config group of the field's name."""
    return {name: field.annotation for name, field in fields(method).items() if field.annotation in networks.KINDS}


def network_names(method: type[Method]) -> list[str]:
    """Returns the names of a method's networks."""
    return [name for name, kind in made_by_group(method).items() if kind is networks.Network]


def complete(recipe: Mapping[str, Any] | ConfigDict) -> ConfigDict:
    """Returns the whole config of a recipe, with every field that can be set.

    Raises:
        UserError: if the method is unknown.
    """
    recipe = recipe.to_dict() if isinstance(recipe, ConfigDict) else recipe
    config = ConfigDict()
    found = groups(recipe)
    for place, known in found.items():
        given = (lookup(recipe, place) if place else recipe) or {}
        group = ConfigDict(foreign(given, known, place, found))
        for name, field in known.items():
            value = given.get(name)
            if f"{place}.{name}" in found:
                continue  # a group of its own
            if place in PLAIN and field.default is not None:
                group[name] = field.kind(field.default if value is None else value)
            else:
                group[name] = field.reference(value)
        put(config, place, group)
    return config


def foreign(given: Mapping, known: Mapping, place: str, found: Mapping) -> dict[str, Any]:
    """Returns the keys of a recipe that are no fields, which `check` rejects."""
    prefix = f"{place}." if place else ""
    return {name: value for name, value in given.items() if name not in known and prefix + name not in found}


def put(config: ConfigDict, place: str, group: ConfigDict) -> None:
    """Sets a group of a config by its dotted name."""
    *parents, last = place.split(".")
    for name in parents:
        config = config[name]
    if last:
        config[last] = group
    else:
        for name, value in group.items(preserve_field_references=True):
            config[name] = value


def lookup(config: Mapping[str, Any] | ConfigDict, key: str) -> Any:
    """Returns the value of a dotted key, or None if it does not exist."""
    value: Any = config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping | ConfigDict) else None
    return value


def check(config: ConfigDict) -> None:
    """Checks that every key that is set is a field of its group, and that every value is in its range.

    Raises:
        UserError: if a key is unknown or a value is out of its range.
    """
    found = groups(config)
    for place, known in found.items():
        prefix = f"{place}." if place else ""
        for name, value in set_fields(lookup(config, place) if place else config).items():
            key = prefix + name
            if key in found:
                continue
            if name not in known:
                owner = (
                    f"the method {config.method.name} has no hyper-parameter" if place == "method" else "there is no"
                )
                raise UserError(
                    f"{owner} {name if place == 'method' else key!r}; {suggest(name, set(known) - {'name'})}"
                )
            if advice := fault(value, known[name].rules):
                raise UserError(f"{key} is {value}; set it to {advice}")


def durations(config: ConfigDict) -> Iterator[tuple[str, int | str]]:
    """Yields the key and the value of each duration that is set; in rules of the optimiser, with the pattern."""
    for place, known in groups(config).items():
        for name, field in known.items():
            key = f"{place}.{name}"
            if any(rule in (lasting, all_lasting) for rule in field.rules) and (value := lookup(config, key)):
                yield from ((key, one) for one in (value if isinstance(value, tuple | list) else (value,)))
    for pattern, rule in config.optimizer.rules or ():
        if "freeze" in rule:
            yield f"freeze of {pattern!r} in optimizer.rules", rule["freeze"]


def defaults(config: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """Returns the default of each field of a config by its dotted key; None if it has none."""
    return {
        f"{place}.{name}" if place else name: field.default
        for place, known in groups(config).items()
        for name, field in known.items()
    }
