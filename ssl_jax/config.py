"""Configs: Python files that return a locked ConfigDict, and what the command line changes in it."""

import ast
import importlib.util
import json
import pathlib
import sys
from collections.abc import Iterable
from typing import Any

import jax
from ml_collections import ConfigDict, FieldReference

from ssl_jax import schema
from ssl_jax.errors import UserError, nearest
from ssl_jax.methods import METHODS

# What may change between two starts of one run without changing what it trains; but not what shapes its state.
FREE = ("log.", "checkpoint.", "evaluate.", "data.dir", "data.workers", "data.device_bytes", "data.host_bytes")
FIXED = ("evaluate.labels",)


def load(text: str, overrides: Iterable[tuple[str, str]] = ()) -> ConfigDict:
    """Reads a config.

    Args:
        text: FILE or FILE:PRESET; the file defines `get_config(preset)`, which returns a dict of what the recipe sets.
        overrides: pairs of a dotted key and its new value as text.

    Returns:
        The locked config, with every key that can be set.

    Raises:
        UserError: if the file, the preset, the method or a key is unknown, or a value has the wrong type.
    """
    file, _, preset = text.partition(":")
    path = pathlib.Path(file)
    if not path.is_file():
        files = recipes(path.parent) or recipes(pathlib.Path("configs"))
        raise UserError(f"there is no config file {file!r}; {nearest(file, files)}")
    root = str(path.resolve().parent.parent)  # a config imports its neighbours as `configs.NAME`
    if root not in sys.path:
        sys.path.insert(0, root)
    spec = importlib.util.spec_from_file_location("ssl_jax_config", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    recipe = module.get_config(preset) if hasattr(module, "get_config") else {}
    if "method" not in recipe:
        raise UserError(f"{file} defines no get_config(preset) that names a method; start from a recipe in configs/")
    config = schema.complete(recipe).lock()
    for key, value in overrides:
        override(config, key, value)
    return config


def recipes(folder: pathlib.Path) -> list[str]:
    """Returns the config files of a folder, without the one they share."""
    return [str(path) for path in folder.glob("*.py") if path.stem != "base"]


def override(config: ConfigDict, key: str, text: str) -> None:
    """Sets one value of a config, read from text by the type it has there.

    Args:
        config: changed in place.
        key: dotted, as in "optimizer.learning_rate".
        text: a number, true or false, a text, a tuple as in "(0.3,1.0)"; an empty text unsets what may be unset, and
            so does "none" where no text is expected.

    Raises:
        UserError: if the key is unknown or the value has another type.
    """
    *groups, last = key.split(".")
    group = config
    for name in groups:
        group = group.get(name) if isinstance(group, ConfigDict) and name in group else None
    if not isinstance(group, ConfigDict) or last not in group:
        raise UserError(f"unknown config key {key!r}; {nearest(key, flatten(config))}")
    if isinstance(group[last], ConfigDict):
        raise UserError(f"{key!r} is a group of keys: set one of {', '.join(f'{key}.{name}' for name in group[last])}")
    kind = group.get_type(last)
    placeholder = isinstance(dict(group.items(preserve_field_references=True))[last], FieldReference)
    unset = not text or (kind is not str and text.lower() == "none")  # as a text, "none" names a norm and a scaling
    try:
        group[last] = None if placeholder and unset else parse(text, kind)
    except (KeyError, ValueError, SyntaxError, TypeError) as error:
        raise UserError(f"config key {key!r} takes {NAMES.get(kind, kind.__name__)}, not {text!r}") from error


NAMES = {int: "a whole number", float: "a number", bool: "true or false", tuple: "a tuple such as (0.3,1.0)"}


def parse(text: str, kind: type) -> Any:
    """Reads a value of a given type from text."""
    if kind is bool:
        return {"true": True, "false": False}[text.lower()]
    if kind is tuple:
        value = ast.literal_eval(text)
        return tuple(value) if isinstance(value, tuple | list) else (value,)
    return kind(text)


def flatten(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Returns the values of a config under their dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= (
            flatten(value, f"{prefix}{name}.") if isinstance(value, ConfigDict | dict) else {f"{prefix}{name}": value}
        )
    return flat


def claim(workdir: pathlib.Path, config: ConfigDict) -> None:
    """Makes a workdir this run's own, by its config.json.

    Raises:
        UserError: if it cannot be written, or holds another run; nothing in it is changed then.
    """
    path, part = workdir / "config.json", workdir / "config.json.part"
    try:
        if path.exists():
            check_same(workdir, json.loads(path.read_text()), config)
        elif workdir.is_dir() and any(file.name not in (path.name, part.name) for file in workdir.iterdir()):
            raise UserError(f"{workdir} is not empty and has no config.json; name another --workdir")
        if jax.process_index() == 0:
            workdir.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(config.to_dict(), indent=1))
            part.replace(path)  # whole or not at all, whoever reads it meanwhile
    except OSError as error:
        raise UserError(
            f"the workdir {workdir} cannot be written ({error.strerror}); name another --workdir"
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is damaged; restore it or name another --workdir") from error


def check_same(workdir: pathlib.Path, theirs: dict[str, Any], ours: ConfigDict) -> None:
    """Checks that a workdir's run differs in nothing but what may change.

    A key that is not set on one side, perhaps because it is newer than the run, has its default there.

    Raises:
        UserError: if it differs in more.
    """
    there, here = with_defaults(theirs), with_defaults(ours)
    keys = [key for key in there | here if not key.startswith(FREE) or key in FIXED]
    differ = [key for key in keys if there.get(key) != here.get(key)]
    if differ:
        changes = ", ".join(f"{key} ({there.get(key)!r} there, {here.get(key)!r} now)" for key in differ)
        raise UserError(f"{workdir} holds another run, which differs in {changes}; name another --workdir")


def with_defaults(config: dict[str, Any] | ConfigDict) -> dict[str, Any]:
    """Returns the values of a config as they read from JSON, and the default of each field that is not set."""
    known = dict(schema.defaults(config)) if schema.lookup(config, "method.name") in METHODS else {}
    given = {key: value for key, value in flatten(config).items() if value is not None}
    return json.loads(json.dumps(known | given))
