"""Views changed by flat keys such as `blur=0.5`, as configs do, and recipes that differ little from another."""

import dataclasses
from typing import Any

from ssl_jax.augment.color import Gray, Jitter, Solarize
from ssl_jax.augment.corruption import ColorDrop, Cutout, GaussianNoise
from ssl_jax.augment.crop import Crop
from ssl_jax.augment.filters import Blur, Sobel
from ssl_jax.augment.geometry import Elastic, PadAndShift, Rotate90, Shear
from ssl_jax.augment.operation import Operation
from ssl_jax.augment.randaugment import RandAugment
from ssl_jax.augment.view import View
from ssl_jax.errors import UserError
from ssl_jax.fields import Field, fields

# By the key of their probability. Each is put before the first operation of a view that comes after it here.
OPERATIONS: dict[str, type[Operation]] = {
    "shift": PadAndShift,
    "rotate": Rotate90,
    "shear": Shear,
    "elastic": Elastic,
    "jitter": Jitter,
    "gray": Gray,
    "color_drop": ColorDrop,
    "blur": Blur,
    "solarize": Solarize,
    "randaugment": RandAugment,
    "sobel": Sobel,
    "noise": GaussianNoise,
    "cutout": Cutout,
}
BARE = ("jitter", "blur", "randaugment")  # the keys of their other fields are the fields' names: `hue`
NAMES = {cls: name for name, cls in OPERATIONS.items()}
CROP = {"crop" if name == "area" else name: field for name, field in fields(Crop).items()}


def operation_fields(name: str) -> dict[str, str]:
    """Returns the fields of an operation by their keys: `blur` is its p, `sigma` its sigma; `shear_slope` a slope."""
    prefix = "" if name in BARE else f"{name}_"
    return {name if field == "p" else prefix + field: field for field in fields(OPERATIONS[name])}


def settings() -> dict[str, Field]:
    """Returns what may be changed in a view, by key; without a default, since it is what the view has."""
    found = CROP | {"flip": fields(View)["flip"], "order": Field(tuple[str, ...])}
    for name, cls in OPERATIONS.items():
        found |= {key: fields(cls)[field] for key, field in operation_fields(name).items()}
    return {key: Field(field.annotation) for key, field in found.items()}


def change(view: View, **changes: Any) -> View:
    """Returns a view with other settings.

    Args:
        view: what to change; strengths of operations it does not have are ignored.
        **changes: keys of `settings`. An operation with a new probability joins the view; one that would do nothing
            leaves it. `order` names the operations in the order they are done, at least those that the view has.

    Raises:
        UserError: if a value is out of range, or `order` lacks an operation.
    """
    crop = {"area" if key == "crop" else key: changes[key] for key in CROP if key in changes}
    then = list(view.then)
    for name, cls in OPERATIONS.items():
        own = {field: changes[key] for key, field in operation_fields(name).items() if key in changes}
        there = [i for i, operation in enumerate(then) if type(operation) is cls]
        for i in there:
            then[i] = dataclasses.replace(then[i], **own)
        if own.get("p") and not there:
            then.insert(place(name, then), cls(**own))
    if "order" in changes:
        then = ordered(then, changes["order"])
    return View(
        dataclasses.replace(view.crop, **crop),
        changes.get("flip", view.flip),
        tuple(operation for operation in then if not operation.idle),
    )


def place(name: str, then: list[Operation]) -> int:
    """Returns where an operation joins others."""
    names = list(OPERATIONS)
    later = [i for i, other in enumerate(then) if names.index(NAMES[type(other)]) > names.index(name)]
    return min(later, default=len(then))


def ordered(then: list[Operation], order: tuple[str, ...]) -> list[Operation]:
    """Returns operations in the order of their names."""
    on = {NAMES[type(operation)] for operation in then if not operation.idle}
    if len(set(order)) < len(order) or not on <= set(order) <= set(OPERATIONS):
        raise UserError(f"order is {order}; set it to names of {', '.join(OPERATIONS)}, each that is on once")
    return [operation for name in order for operation in then if NAMES[type(operation)] == name]
