"""The fields of a dataclass as keys of a config: types, defaults, and ranges from annotations."""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from ml_collections import ConfigDict, FieldReference

from ssl_jax.errors import UserError
from ssl_jax.schedule import is_duration


class Rule(NamedTuple):
    """A condition on a value, as metadata of an annotation: `hidden: Annotated[int, positive]`."""

    holds: Callable[[Any], bool]
    says: str  # completes "set it to ..."

    def allows(self, value: Any) -> bool:
        """Returns whether a value follows the rule; one of a type that the condition does not expect does not."""
        try:
            return bool(self.holds(value))
        except TypeError:
            return False


positive = Rule(lambda value: value > 0, "more than 0")
not_negative = Rule(lambda value: value >= 0, "0 or more")
decay = Rule(lambda value: 0 <= value < 1, "0 or more, and less than 1")
share = Rule(lambda value: 0 <= value <= 1, "a number from 0 to 1")
fraction = Rule(lambda value: 0 < value <= 1, "more than 0, at most 1")
lasting = Rule(is_duration, "a duration: '10 epochs', '313 steps', '40000 examples' or a number of steps")


def fault(value: Any, rules: Iterable[Rule]) -> str | None:
    """Returns what a value must be set to that is not finite or breaks one of the rules; None if all is well."""
    if not finite(value):
        return "finite numbers" if isinstance(value, tuple | list) else "a finite number"
    return next((rule.says for rule in rules if not rule.allows(value)), None)


def finite(value: Any) -> bool:
    """Returns whether no number in a value is infinite or NaN."""
    if isinstance(value, tuple | list):
        return all(map(finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def one_of(choices: Iterable[str]) -> Rule:
    """Returns the rule that a value is one of the given words."""
    words = tuple(choices)
    return Rule(lambda value: value in words, " or ".join(words))


def every(rule: Rule) -> Rule:
    """Returns the rule that a value is a tuple whose members, one or more, follow a rule."""
    return Rule(lambda values: len(values) > 0 and all(map(rule.holds, values)), f"one or several, each {rule.says}")


all_lasting = every(lasting)


class Field(NamedTuple):
    """One key of a config group."""

    annotation: Any
    default: Any = None
    required: bool = False

    @property
    def kind(self) -> type:
        """The type of the value in a config: bool, int, float, str or tuple."""
        return kind(self.annotation)

    @property
    def plain(self) -> Any:
        """The annotation without its rules."""
        annotated = typing.get_origin(self.annotation) is Annotated
        return typing.get_args(self.annotation)[0] if annotated else self.annotation

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules for the value; of whole numbers without one, that they are not negative."""
        return rules(self.annotation) or (not_negative,) * (self.kind is int)

    def reference(self, value: Any = None) -> FieldReference:
        """Returns a typed reference for a config, with the value or unset."""
        return FieldReference(value, field_type=self.kind)


def fields(factory: Callable, without: tuple[str, ...] = ()) -> dict[str, Field]:
    """Returns the fields of a dataclass, a Flax module or a `functools.partial` of one, by name."""
    cls, bound = factory, {}
    if isinstance(factory, functools.partial):
        cls, bound = factory.func, factory.keywords
    annotations = typing.get_type_hints(cls, include_extras=True)
    found = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.init and field.name not in without:
            default = bound.get(field.name, field.default)
            required = default is dataclasses.MISSING
            found[field.name] = Field(annotations[field.name], None if required else default, required)
    return found


def kind(annotation: Any) -> type:
    """Returns the type of a value in a config: durations are text, schedules numbers, sequences tuples."""
    if typing.get_origin(annotation) is Annotated:
        return kind(typing.get_args(annotation)[0])
    if isinstance(annotation, typing.NewType):  # a number that may be written in other units, such as "10 epochs"
        return str
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        kinds = [kind(one) for one in typing.get_args(annotation) if one is not types.NoneType]
        return str if str in kinds else kinds[0]
    if annotation in (bool, int, float, str):
        return annotation
    origin = typing.get_origin(annotation) or annotation
    if origin is Callable:
        return float
    if origin in (tuple, Sequence):
        return tuple
    return dict if origin is Mapping else str  # text names what is opened


def member(annotation: Any) -> type | None:
    """Returns the type of the members of a tuple in a config; None if the value is none."""
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple:
        return kind(parts[0])
    return next((found for part in parts if (found := member(part))), None)


def rules(annotation: Any) -> tuple[Rule, ...]:
    """Returns the rules of an annotation, of the members of a union, and the length of a tuple that has one."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, typing.NewType):
        return (lasting,)
    if origin is Annotated:
        return tuple(one for one in annotation.__metadata__ if isinstance(one, Rule)) + rules(arguments[0])
    if origin in (types.UnionType, typing.Union):
        return tuple(rule for part in arguments for rule in rules(part))
    if origin is tuple and Ellipsis not in arguments:
        return (Rule(lambda value: len(value) == len(arguments), f"a tuple of {len(arguments)} values"),)
    return ()


def check_fields(value: Any) -> None:
    """Checks the fields of an instance of a dataclass by the rules of their annotations.

    Raises:
        UserError: if a value is out of its range.
    """
    for name, field in fields(type(value)).items():
        if advice := fault(given := getattr(value, name), field.rules):
            raise UserError(f"{type(value).__name__}.{name} is {given}; set it to {advice}")


def set_fields(config: Mapping | ConfigDict, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Returns the keys of a config group that are set, except for those in `without`."""
    return {key: value for key, value in config.items() if value is not None and key not in without}


def to_dict(config: Mapping | ConfigDict) -> dict[str, Any]:
    """Returns a config as nested dicts, without keys that are not set, and with lists as tuples."""

    def plain(value):
        if isinstance(value, Mapping | ConfigDict):
            return to_dict(value)
        return tuple(map(plain, value)) if isinstance(value, list | tuple) else value

    return {key: plain(value) for key, value in set_fields(config).items()}
