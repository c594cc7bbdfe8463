"""Loads configs: Python files that name what a recipe sets, with overrides from the command line."""

import ast
import contextlib
import importlib.util
import os
import pathlib
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict, FieldReference

from ssl_jax import schema
from ssl_jax.errors import UserError, suggest

PACKAGE = pathlib.Path(__file__).parent
# The recipes that come with the package: in an installed one inside of it, in a checkout beside it.
SHIPPED = next(folder for folder in (PACKAGE / "configs", PACKAGE.parent / "configs") if folder.is_dir())

PATHS = ("init.from", "method.teacher")  # keys of files and folders


def load(text: str, overrides: Iterable[tuple[str, str]] = ()) -> ConfigDict:
    """Reads a config.

    Args:
        text: FILE or FILE:PRESET; the file defines `get_config(preset)`, which returns a dict of what the recipe sets.
            `byol`, `byol.py` and `configs/byol.py` name the recipe of the package, wherever there is no such file.
        overrides: pairs of a dotted key and its new value as text.

    Returns:
        The locked config, with every key that can be set.

    Raises:
        UserError: if the file, the preset, the method or a key is unknown, or a value has the wrong type.
    """
    recipe = read(text)
    if "method" not in (recipe or {}):
        file = text.partition(":")[0]
        raise UserError(f"{file} defines no get_config(preset) that names a method; start from a recipe in {SHIPPED}")
    return complete(recipe, overrides)


def load_for_photos(text: str, overrides: Iterable[tuple[str, str]] = ()) -> ConfigDict | None:
    """Reads a config with its views for colour photographs, `get_config.photos(preset)`; as `load` otherwise.

    Returns:
        The config; None if it has no such views, since it is not for the embedded images, or the overrides name others.
    """
    named = any(key == "augment.recipe" for key, _ in overrides)
    recipe = None if named else read(text, photos=True)
    return None if recipe is None else complete(recipe, overrides)


def read(text: str, photos: bool = False) -> dict | None:
    """Returns what FILE or FILE:PRESET sets, with `photos` for colour photographs; None if it defines nothing."""
    file, _, preset = text.partition(":")
    path = find(file)
    with importable(path.parent):
        get_config = getattr(execute(path), "get_config", None)
        if photos:
            get_config = getattr(get_config, "photos", None)
        return get_config(preset) if get_config else None


def complete(recipe: Mapping[str, Any], overrides: Iterable[tuple[str, str]]) -> ConfigDict:
    """Returns the whole config of a recipe, locked, with overrides."""
    config = schema.complete(recipe).lock()
    for key, value in overrides:
        override(config, key, value)
    for group in (config.data, config.evaluate):
        group.source = group.source and from_anywhere(group.source)
    for key in PATHS:
        place, name = key.split(".")
        if path := config[place].get(name):
            config[place][name] = absolute(path)
    return config


def from_anywhere(source: str) -> str:
    """Returns the name of a source that means the same images in any working directory."""
    scheme, _, path = source.partition(":")
    local = scheme in ("folder", "pairs", "boxes", "segments") and path
    return f"{scheme}:{absolute(path)}" if local else source


def absolute(path: str) -> str:
    """Returns a path that means the same in any working directory; an address such as gs://... is one already."""
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


def find(file: str) -> pathlib.Path:
    """Returns the path of a config file, or else of the recipe of the package that has this name.

    Raises:
        UserError: if there is neither.
    """
    path = pathlib.Path(file)
    shipped = SHIPPED / f"{path.stem}.py"
    if path.suffix == ".py" and path.is_file():
        return path
    if str(path) in (shipped.stem, shipped.name, f"configs/{shipped.name}") and shipped.is_file():
        return shipped
    beside = [] if path.parent == pathlib.Path() else recipes(path.parent)
    hint = suggest(file, beside) if beside else suggest(path.stem, [pathlib.Path(one).stem for one in recipes(SHIPPED)])
    raise UserError(f"there is no config file {file!r}; {hint}")


@contextlib.contextmanager
def importable(folder: pathlib.Path) -> Iterator[None]:
    """Lets recipes import others as `configs.NAME`: those of their own folder, or else those of the package."""

    def named():
        return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "configs"}

    before = named()
    for name in before:
        del sys.modules[name]
    package = sys.modules["configs"] = types.ModuleType("configs")
    package.__path__ = [str(folder.resolve()), str(SHIPPED)]
    try:
        yield
    finally:
        for name in named():
            del sys.modules[name]
        sys.modules.update(before)


def execute(path: pathlib.Path) -> types.ModuleType:
    """Runs a Python file, and returns it as a module."""
    spec = importlib.util.spec_from_file_location("ssl_jax_config", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recipes(folder: pathlib.Path) -> list[str]:
    """Returns the config files of a folder, without `base.py`, which they share."""
    return [str(path) for path in folder.glob("*.py") if path.stem != "base"]


def override(config: ConfigDict, key: str, text: str) -> None:
    """Sets one value of a config from text, which is parsed by the type of the key.

    Args:
        config: the config, changed in place.
        key: a dotted key, as in "optimizer.learning_rate".
        text: a number, true or false, text, or a tuple as in "(0.3,1.0)". Empty text unsets a key without a fixed
            default, and so does "none" unless the type is text.

    Raises:
        UserError: if the key is unknown or the text has another type.
    """
    *groups, last = key.split(".")
    group = config
    for name in groups:
        group = group.get(name) if isinstance(group, ConfigDict) and name in group else None
    if not isinstance(group, ConfigDict) or last not in group:
        raise UserError(f"unknown config key {key!r}; {suggest(key, flatten(config))}")
    if isinstance(group[last], ConfigDict):
        keys = ", ".join(f"{key}.{name}" for name in group[last])
        advice = f"write {key}.name={text}" if "name" in group[last] else f"set one of {keys}"
        raise UserError(f"{key!r} is a group of keys; {advice}")
    kind = group.get_type(last)
    placeholder = isinstance(dict(group.items(preserve_field_references=True))[last], FieldReference)
    unset = not text or (kind is not str and text.lower() == "none")  # as a text, "none" names a norm and a scaling
    try:
        group[last] = None if placeholder and unset else parse(text, kind)
    except (KeyError, ValueError, SyntaxError, TypeError) as error:
        raise UserError(f"config key {key!r} takes {NAMES.get(kind, kind.__name__)}, not {text!r}") from error


NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a tuple such as (0.3,1.0) or ('encoder',)",
}


def parse(text: str, kind: type) -> Any:
    """Returns the value of a type that the text describes."""
    if kind is bool:
        return {"true": True, "false": False}[text.lower()]
    if kind is tuple:
        value = ast.literal_eval(text)
        return tuple(value) if isinstance(value, tuple | list) else (value,)
    return kind(text)


def flatten(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Returns the values of a config by their dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= (
            flatten(value, f"{prefix}{name}.") if isinstance(value, ConfigDict | dict) else {f"{prefix}{name}": value}
        )
    return flat
