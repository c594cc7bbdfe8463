"""The papers' recipes as a table; where a code differs from its paper, the code is followed."""

import dataclasses
from dataclasses import replace
from typing import Any

from ssl_jax.augment.patches import Grid
from ssl_jax.augment.spaces import SPACES, Space
from ssl_jax.augment.view import Group, Recipe, View
from ssl_jax.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class Patches:
    """Small views that are patches of one crop: their grid, in proportion to their side."""

    cell: float = 1.0  # side of a cell as a share of a patch's
    stride: float = 1.0  # from a cell to the next as a share of a cell's side
    side: int | None = None  # rows and columns; None: as many as fill an image

    def grid(self, patch: int, size: int) -> Grid:
        """The grid for patches and images of so many pixels."""
        cell = round(self.cell * patch)
        stride = round(self.stride * cell)
        steps, rest = divmod(size - cell, stride)
        if self.side is None and rest:
            fit = " or ".join(str(cell + n * stride) for n in (steps, steps + 1) if n >= 0)
            raise UserError(f"patches of {cell} pixels, {stride} apart, do not fill {size}; set data.size to {fit}")
        return Grid(self.side or steps + 1, cell, stride)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One paper: its large views, its small ones (side as a share of the large side), its colour space."""

    large: tuple[View, ...]
    small: tuple[View, ...] = ()
    scale: float = 96 / 224
    patches: Patches | None = None  # what the small views are, if not crops: one View then stands for all
    space: Space = SPACES["rgb"]


def twice(view: View) -> tuple[View, ...]:
    return (view, view)


def pair(view: View) -> tuple[View, ...]:
    """The asymmetric pair of BYOL and its heirs: always blurred; seldom blurred, sometimes solarised."""
    return replace(view, blur=1.0), replace(view, blur=0.1, solarize=0.2)


STRONG: dict[str, Any] = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}
TENSORFLOW: dict[str, Any] = {"resample": "bicubic", "antialias": False, "border": "zero"}  # BYOL does as SimCLR

INSTDISC = View(crop=(0.2, 1.0), jitter=1.0, hue=0.4, order=("gray", "jitter", "blur", "solarize"))
SUPCON = View(crop=(0.2, 1.0))
PLAIN = View(jitter=0.0, gray=0.0)
MOCO_V2 = replace(SUPCON, blur=0.5)
MOCO_V3 = View(saturation=0.2)
SIMCLR = View(**STRONG, **TENSORFLOW, semantics="simclr", blur=0.5)
BYOL = View(**TENSORFLOW, semantics="byol", saturation=0.2)
BARLOW = View(resample="bicubic", saturation=0.2)
SWAV = View(**STRONG, crop=(0.14, 1.0), blur=0.5)
# Distortions of Inception (arXiv:1512.00567); flips and crops, of the whole grid, are ours.
CPC = View(
    crop=(0.5, 1.0), jitter=0.8, semantics="byol", brightness=32 / 255, contrast=0.5, saturation=0.5, gray=0.25, hue=0.2
)
CPC_CIFAR = View(crop=(0.77, 1.0), ratio=(1.0, 1.0), hue=0.2, gray=0.25)  # the crop: for shifts by 4 of 32 pixels
INFOMIN = View(
    **STRONG,
    crop=(0.2, 1.0),
    blur=0.5,
    sigma=(0.1, 2.0),  # of the code; its paper does not say
    border="reflect",
    randaugment=0.5,
    order=("jitter", "blur", "randaugment", "gray", "solarize"),
)
JIGSAW = View(crop=(0.6, 1.0), jitter=0.0, gray=0.0)
CAST = replace(INSTDISC, jitter=0.5, cover=0.2)
CIFAR_STRONG = View(**STRONG, resample="bicubic", blur=0.5)

RGB = SPACES["rgb"]
BARE = RGB._replace(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
CIFAR = RGB._replace(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))

# The number behind a row is its paper's on arXiv.
RECIPES = {
    "instdisc": Entry((INSTDISC,)),  # 1805.01978
    "deepcluster": Entry((PLAIN,)),  # 1807.05520
    "cpc_v1": Entry(  # 1807.03748
        (), (View(crop=(0.73, 0.73), ratio=(1.0, 1.0), jitter=0.0, gray=0.5),), 64 / 256, Patches(stride=0.5)
    ),
    "cpc": Entry((), (CPC,), 80 / 260, Patches(stride=36 / 80)),  # 1905.09272
    "cpc_cifar": Entry((), (CPC_CIFAR,), 8 / 32, Patches(stride=0.5), space=CIFAR),  # lightning-bolts
    "cmc": Entry((PLAIN,), space=SPACES["lab"]),  # 1906.05849, crops of its ResNet; those of its AlexNet are (0.2, 1.0)
    "crd": Entry((PLAIN,)),  # 1910.10699, on ImageNet
    "moco_v1": Entry(twice(INSTDISC)),  # 1911.05722
    "moco_v2": Entry(twice(MOCO_V2)),  # 2003.04297
    "simsiam": Entry(twice(MOCO_V2)),  # 2011.10566
    "densecl": Entry(twice(MOCO_V2)),  # 2011.09157
    "simclr": Entry(twice(SIMCLR), space=BARE),  # 2002.05709, does not normalise
    "byol": Entry(pair(BYOL)),  # 2006.07733
    "barlow_twins": Entry(pair(BARLOW)),  # 2103.03230
    "vicreg": Entry(pair(BARLOW)),  # 2105.04906
    "moco_v3": Entry(pair(MOCO_V3)),  # 2104.02057, crops of its ViT; those of its ResNet are (0.2, 1.0)
    "swav": Entry(  # 2006.09882; 0.228 is a typo of its code, kept because its numbers come from it
        twice(SWAV), 6 * (replace(SWAV, crop=(0.05, 0.14)),), space=RGB._replace(std=(0.228, 0.224, 0.225))
    ),
    "dino": Entry(  # 2104.14294
        pair(replace(BARLOW, crop=(0.4, 1.0))), 8 * (replace(BARLOW, crop=(0.05, 0.4), blur=0.5),)
    ),
    "ibot": Entry(  # 2111.07832
        pair(replace(BARLOW, crop=(0.25, 1.0))), 10 * (replace(BARLOW, crop=(0.05, 0.25), blur=0.5),)
    ),
    "supcon": Entry(twice(SUPCON)),  # 2004.11362
    "infomin": Entry(  # 2005.10243; its small views are 64 of the 85 pixels of each of 3 x 3 cells
        twice(INFOMIN), (JIGSAW,), 64 / 224, Patches(cell=85 / 64, side=3)
    ),
    "cast": Entry(twice(CAST)),  # 2012.04630
    "mae": Entry((replace(PLAIN, crop=(0.2, 1.0), resample="bicubic"),)),  # 2111.06377
    "slip": Entry(twice(View(blur=0.5))),  # 2112.12750, the views of its SimCLR half
    "cifar_symmetric": Entry(twice(CIFAR_STRONG), space=CIFAR),  # solo-learn, 2108.01775
    "cifar_asymmetric": Entry((BARLOW, replace(BARLOW, solarize=0.2)), space=CIFAR),  # solo-learn
}


def recipe(
    name: str,
    size: int,
    small_size: int | None = None,
    small_views: int | None = None,
    small_crop: tuple[float, float] | None = None,
    **changes: Any,
) -> Recipe:
    """A paper's recipe at a given resolution, with changes.

    Args:
      name: of the paper, a row of `RECIPES`.
      size: side of the (large) views, or of the images that are cut into patches; in pixels.
      small_size: side of the small views or patches; None: in the paper's proportion to `size`.
      small_views: how many small views; None: as the paper. Of patches only 0 can be chosen: none.
      small_crop: area range of the small views, or of the crop that is cut into patches; None: as the paper.
      **changes: fields of `View` that replace those of every view (`crop`: of the large ones), or `mean` and
        `std`, or `space`, a row of `SPACES`, which comes with a mean and a deviation of its own.

    Raises:
      UserError: an unknown name or field, a value out of range, or small views asked of a recipe that has none.
    """
    if name not in RECIPES:
        raise UserError(f"unknown augmentation recipe {name!r}; {nearest(name, RECIPES)}")
    entry = RECIPES[name]
    fields = [field.name for field in dataclasses.fields(View)] + ["space", "mean", "std"]
    for field in changes:
        if field not in fields:
            raise UserError(f"augmentation has no field {field!r}; {nearest(field, fields)}")
    if not entry.small and (small_size, small_views, small_crop) != (None, None, None):
        raise UserError(f"the recipe {name!r} has no small views: leave small_size, small_views and small_crop out")
    if not entry.large and "crop" in changes:
        raise UserError(f"the recipe {name!r} has no large views: in place of crop, set small_crop")
    if entry.patches and small_views:
        raise UserError(f"the patches of the recipe {name!r} are as many as its grid has: leave small_views out")

    changes = {field: tuple(value) if isinstance(value, list) else value for field, value in changes.items()}
    if changes.get("space", "rgb") not in SPACES:
        raise UserError(f"there is no colour space {changes['space']!r}; {nearest(changes['space'], SPACES)}")
    space = SPACES[changes.pop("space")] if "space" in changes else entry.space
    space = space._replace(**{field: changes.pop(field) for field in ("mean", "std") if field in changes})
    large = tuple(replace(view, **changes) for view in entry.large)
    groups = [Group(large, size)] if large else []
    if entry.small and small_views != 0:
        first = entry.small[0]
        small = replace(first, **changes | {"crop": tuple(small_crop or first.crop)})
        small_size = small_size or round(size * entry.scale)
        grid = entry.patches.grid(small_size, size) if entry.patches else None
        count = grid.side**2 if grid else small_views or len(entry.small)
        groups.append(Group((small,) * count, small_size, grid))
    if not groups:
        raise UserError(f"the recipe {name!r} without its patches has no views: leave small_views out")
    return Recipe(tuple(groups), space)
