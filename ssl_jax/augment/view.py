"""What a recipe of augmentation is: for each view, the distribution its transformation is drawn from."""

import dataclasses
import math
from collections.abc import Callable

from ssl_jax.augment.color import SEMANTICS
from ssl_jax.augment.filters import BORDERS
from ssl_jax.augment.patches import Grid
from ssl_jax.augment.resampling import KERNELS
from ssl_jax.augment.spaces import Space
from ssl_jax.errors import UserError, nearest

Range = tuple[float, float]
STEPS = ("jitter", "gray", "blur", "solarize", "randaugment")


@dataclasses.dataclass(frozen=True)
class View:
    """The distribution of one view. Probabilities are in [0, 1]; a strength or probability of 0 costs nothing."""

    crop: Range = (0.08, 1.0)  # area of the crop as a share of the image, uniform
    ratio: Range = (3 / 4, 4 / 3)  # width / height of the crop, log-uniform
    cover: float = 0.0  # share of the image's mask, where it has one, that the crop should hold
    resample: str = "bilinear"  # or "bicubic"
    antialias: bool = True
    flip: float = 0.5  # probability; a flip commutes with all the rest, so it has no place in `order`
    jitter: float = 0.8  # probability of the four colour operations, which come in random order
    brightness: float = 0.4  # factor in 1 +- this, or with "byol" semantics summand in +- this
    contrast: float = 0.4  # factor in 1 +- this
    saturation: float = 0.4  # factor in 1 +- this
    hue: float = 0.1  # turns in +- this
    semantics: str = "torchvision"  # whose colour operations: "torchvision", "simclr" or "byol"
    gray: float = 0.2  # probability
    blur: float = 0.0  # probability
    sigma: Range = (0.1, 2.0)  # standard deviation of the blur in pixels, uniform
    border: str = "edge"  # of the blur; "zero" also cuts the kernel to a tenth of the side (SimCLR, BYOL)
    solarize: float = 0.0  # probability
    randaugment: float = 0.0  # probability of each of two operations of RandAugment
    magnitude: float = 10.0  # of them, 0 to 10: the mean of a normal distribution, which is clipped to that range
    order: tuple[str, ...] = STEPS

    @property
    def steps(self) -> tuple[str, ...]:
        """What is done after the crop, in order, without what would do nothing."""
        return tuple(name for name in self.order if getattr(self, name) and (name != "jitter" or self.operations))

    @property
    def strengths(self) -> tuple[float, float, float, float]:
        return self.brightness, self.contrast, self.saturation, self.hue

    @property
    def operations(self) -> tuple[tuple[Callable, float], ...]:
        """The colour operations that do something, each with its strength."""
        return tuple(pair for pair in zip(SEMANTICS[self.semantics], self.strengths, strict=True) if pair[1])

    def __post_init__(self):
        for name in ("flip", *STEPS):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is a probability: give a number from 0 to 1, not {getattr(self, name)}")
        if not 0 <= self.cover <= 1:
            raise UserError(f"cover is a share: give a number from 0 to 1, not {self.cover}")
        for name, most in (("crop", 1), ("ratio", math.inf), ("sigma", math.inf)):
            if len(value := getattr(self, name)) != 2 or not 0 < value[0] <= value[1] <= most:
                limit = " <= 1" if most == 1 else ""
                raise UserError(f"{name} is a range: give (low, high) with 0 < low <= high{limit}, not {value}")
        for name, strength in zip(("brightness", "contrast", "saturation", "hue"), self.strengths, strict=True):
            if strength < 0 or (name == "hue" and strength > 0.5):
                raise UserError(f"{name} is a strength: give a number from 0 up (hue: to 0.5), not {strength}")
        for name, choices in (("resample", KERNELS), ("border", BORDERS), ("semantics", SEMANTICS)):
            if (value := getattr(self, name)) not in choices:
                raise UserError(f"{name} {value!r} is unknown; {nearest(value, choices)}")
        if not 0 <= self.magnitude <= 10:
            raise UserError(f"magnitude is a number from 0 to 10, not {self.magnitude}")
        on = {name for name in STEPS if getattr(self, name)}
        if len(set(self.order)) < len(self.order) or not on <= set(self.order) <= set(STEPS):
            raise UserError(f"order must name each step that is on once, of {', '.join(STEPS)}, not {self.order}")


@dataclasses.dataclass(frozen=True)
class Group:
    """Views of one resolution: they come as one array."""

    views: tuple[View, ...]
    size: int  # side in pixels
    grid: Grid | None = None  # the views, all alike, are patches of one crop; None: each has a crop of its own

    def __post_init__(self):
        if self.grid and (self.views != self.views[:1] * self.grid.side**2 or self.size > self.grid.cell):
            raise UserError(f"{self.grid} takes as many equal views of at most {self.grid.cell} pixels as it has cells")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All views of an example, and the colour space they end in, normalised."""

    groups: tuple[Group, ...]
    space: Space

    @property
    def covers(self) -> bool:
        """Whether crops should hold a share of a mask."""
        return any(view.cover for group in self.groups for view in group.views)

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
        kind = "view" if len(crops) == 1 else "large view" if group is crops[0] else "small view"
        captions += [f"{kind} {number}, {group.size} px" for number in range(1, len(group.views) + 1)]
    return tuple(captions)
