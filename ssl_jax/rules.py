"""Patterns of parameter paths: how an optimiser treats each parameter, and whose gradients are logged."""

import difflib
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import optax

from ssl_jax.errors import UserError, suggest
from ssl_jax.fields import decay, fault, lasting, not_negative
from ssl_jax.fields import rules as ranges
from ssl_jax.numeric import path_name


class Rule(NamedTuple):
    """How one parameter is treated."""

    weight_decay: Annotated[float, not_negative] = 1.0  # factor of the optimiser's
    learning_rate: Annotated[float, not_negative] = 1.0  # factor of the optimiser's
    adaptation: bool = True  # whether LARS scales it by its trust ratio
    freeze: Annotated[int | str, lasting] = 0  # duration until which neither the parameter nor its moments change
    momentum: Annotated[float, decay] | None = None  # instead of the optimiser's, in sgd and lars
    constant: bool = False  # whether the learning rate stays at its peak


def resolve(rules: Sequence, params: Any, to_steps: Callable[[int | str], int]) -> dict[str, Rule]:
    """Returns the rule of every parameter by its path."""
    resolved = {path_name(path): Rule() for path, _ in jax.tree_util.tree_leaves_with_path(params)}
    for rule in rules:
        if not (isinstance(rule, Sequence) and len(rule) == 2 and isinstance(rule[1], Mapping)):
            raise UserError(f"{rule!r} is not an optimizer rule; write rules as ((pattern, {{setting: value}}), ...)")
        pattern, fields = rule
        for key in set(fields) - set(Rule._fields):
            raise UserError(f"unknown setting {key!r} in the optimizer rule {pattern!r}; {suggest(key, Rule._fields)}")
        check(pattern, fields)
        for path in matching(pattern, resolved):
            resolved[path] = resolved[path]._replace(**fields)
    return {path: rule._replace(freeze=to_steps(rule.freeze)) for path, rule in resolved.items()}


def check(pattern: str, fields: Mapping[str, Any]) -> None:
    """Checks that what a rule sets is in its range.

    Raises:
        UserError: if it is not.
    """
    kinds = typing.get_type_hints(Rule, include_extras=True)
    for key, value in fields.items():
        if value is not None and (advice := fault(value, ranges(kinds[key]))):
            raise UserError(f"{key} of the optimizer rule {pattern!r} is {value!r}; set it to {advice}")


def matching(pattern: str, paths: Iterable[str], what: str = "the optimizer rule") -> list[str]:
    """Returns the paths that a regular expression matches.

    Raises:
        UserError: if it matches none, or is not a regular expression; `what` is the pattern's name.
    """
    try:
        found = [path for path in paths if re.search(pattern, path)]
    except re.error as error:
        raise UserError(f"{what} {pattern!r} is not a regular expression: {error}") from error
    if not found:
        close = ", ".join(difflib.get_close_matches(pattern, paths, cutoff=0.0))
        raise UserError(f"{what} {pattern!r} matches no parameter; the nearest are {close}")
    return found


def gradient_norms(gradients: Any, patterns: Sequence[str] = ()) -> dict[str, jax.Array]:
    """Returns the norm of the gradient of all parameters together, and of those that each pattern matches.

    Args:
        gradients: like the parameters.
        patterns: regular expressions, which are searched in the paths as those of optimiser rules.

    Returns:
        Scalars by name, "gradient_norm" and "gradient_norm/PATTERN".

    Raises:
        UserError: if a pattern matches no parameter.
    """
    by_path = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)}
    norms = {"gradient_norm": optax.tree.norm(gradients)}
    for pattern in patterns:
        chosen = [by_path[path] for path in matching(pattern, by_path, "log.gradients")]
        norms[f"gradient_norm/{pattern}"] = optax.tree.norm(chosen)
    return norms


def labels(label: Callable[[Rule], Any], tree: Any, rules: Mapping[str, Rule]) -> Any:
    """Returns a tree like the given one with the label of each parameter's rule."""
    return jax.tree_util.tree_map_with_path(lambda path, _: label(rules[path_name(path)]), tree)


def per_parameter(change: Callable, rules: Mapping[str, Rule]) -> optax.GradientTransformation:
    """Returns a transformation that applies `change(rule, update, parameter)` to each update."""

    def update(updates, params):
        return jax.tree_util.tree_map_with_path(
            lambda path, update, param: change(rules[path_name(path)], update, param), updates, params
        )

    return optax.stateless(update)
