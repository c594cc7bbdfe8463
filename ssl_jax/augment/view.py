"""Recipes of augmentation: for each view, the distribution that its transformation is drawn from."""

import dataclasses
from typing import Annotated, Any, NamedTuple

import jax

from ssl_jax.augment.crop import Crop
from ssl_jax.augment.operation import Operation
from ssl_jax.augment.patches import Grid
from ssl_jax.augment.spaces import Space
from ssl_jax.augment.views import ROLES
from ssl_jax.errors import UserError, suggest
from ssl_jax.fields import check_fields, share


class Draw(NamedTuple):
    """A drawn transformation of one image."""

    crop: jax.Array  # int32 [4], (top, left, height, width) of the crop on the canvas
    box: jax.Array  # [4], what is seen of the crop: all of it, or a patch in fractions of pixels
    flip: jax.Array  # bool []
    then: tuple[Any, ...]  # what each operation drew


@dataclasses.dataclass(frozen=True)
class View:
    """The distribution of one view: a crop, a flip left and right, and then operations, one after the other."""

    crop: Crop = dataclasses.field(default_factory=Crop)
    flip: Annotated[float, share] = 0.5  # probability
    then: tuple[Operation, ...] = ()

    def __post_init__(self):
        check_fields(self)

    @property
    def shared(self) -> int:
        """How many of the uniform numbers decide on crop and flip, which the patches of one grid share: the first."""
        return self.crop.numbers + 1

    @property
    def numbers(self) -> int:
        """Uniform numbers that `draw` consumes."""
        return self.shared + sum(operation.numbers for operation in self.then)

    def draw(self, uniform: jax.Array, valid: jax.Array, salience: jax.Array | None = None) -> Draw:
        """Draws a transformation.

        Args:
            uniform: [numbers] or more, independent and uniform on [0, 1): the only randomness. One array of them
                is much cheaper to compile and to generate than a key for each decision.
            valid: int [4], (top, left, height, width) of the image on its canvas.
            salience: of the image, [H, W] on the canvas, or None.
        """
        crop = self.crop.draw(uniform[: self.crop.numbers], valid, salience)
        drawn, start = [], self.shared
        for operation in self.then:
            drawn.append(operation.draw(uniform[start : start + operation.numbers]))
            start += operation.numbers
        return Draw(crop, crop, uniform[self.crop.numbers] < self.flip, tuple(drawn))


@dataclasses.dataclass(frozen=True)
class Group:
    """Views of one resolution: they come as one array."""

    views: tuple[View, ...]
    size: int  # side in pixels
    role: str = "large"  # one of `ROLES`
    grid: Grid | None = None  # the views, all alike, are patches of one crop; None: each has a crop of its own
    buckets: tuple[
        "Group", ...
    ] = ()  # row i of a batch is as the bucket i modulo their number says; none: as this group

    def __post_init__(self):
        if self.role not in ROLES:
            raise UserError(f"views cannot have the role {self.role!r}; {suggest(self.role, ROLES)}")
        if (self.grid is not None) != (self.role == "patch"):
            raise UserError(f"views of the role {self.role!r} cannot have the grid {self.grid}; patches need one")
        if self.grid and (self.views != self.views[:1] * self.grid.side**2 or self.size > self.grid.cell):
            raise UserError(f"{self.grid} takes as many equal views of at most {self.grid.cell} pixels as it has cells")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All views of an example, and the colour space and type they end in, normalised."""

    groups: tuple[Group, ...]
    space: Space
    dtype: str = "float32"  # of the views' values; all is computed in float32

    @property
    def covers(self) -> bool:
        """Whether crops should hold a share of what is salient."""
        return any(view.crop.cover for view in self.views)

    @property
    def views(self) -> tuple[View, ...]:
        """The views of all groups."""
        return tuple(view for group in self.groups for view in group.views)

    def __post_init__(self):
        _, _, mean, std = self.space
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise UserError(f"mean and std are three numbers each, std above 0, not {mean} and {std}")


def describe(recipe: Recipe) -> tuple[str, ...]:
    """A short caption of each view, in their order, `large view 1, 224 px`; the patches of a grid share one."""
    crops = [group for group in recipe.groups if group.grid is None]
    captions: list[str] = []
    for group in recipe.groups:
        if group.grid:
            captions.append(f"{group.grid.side} x {group.grid.side} patches, {group.size} px")
            continue
        kind = "view" if len(crops) == 1 else f"{group.role} view"
        size = "|".join(str(one.size) for one in group.buckets or (group,))
        captions += [f"{kind} {number}, {size} px" for number in range(1, len(group.views) + 1)]
    return tuple(captions)
