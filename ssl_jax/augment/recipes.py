"""The papers' recipes as a table; where a code differs from its paper, the code is followed."""

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from ssl_jax.augment.changes import change
from ssl_jax.augment.changes import settings as view_settings
from ssl_jax.augment.color import Gray, Jitter
from ssl_jax.augment.crop import Crop
from ssl_jax.augment.filters import Blur
from ssl_jax.augment.operation import Range, shares
from ssl_jax.augment.patches import Grid
from ssl_jax.augment.randaugment import RandAugment
from ssl_jax.augment.spaces import SPACES, Space
from ssl_jax.augment.view import Group, Recipe, View
from ssl_jax.errors import UserError, suggest
from ssl_jax.fields import Field, not_negative, positive

SMALL_AREA = (0.05, 0.14)  # of small crops, where a paper has none: SwAV's (arXiv:2006.09882)


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
    return change(view, blur=1.0), change(view, blur=0.1, solarize=0.2)


MIDDLE, BICUBIC = Crop((0.2, 1.0)), Crop(resample="bicubic")
TENSORFLOW = Crop(resample="bicubic", antialias=False)  # BYOL does as SimCLR
JITTER, STRONG = Jitter(0.8), Jitter(0.8, 0.8, 0.8, 0.8, 0.2)
WEAK_SATURATION = Jitter(0.8, saturation=0.2)

INSTDISC = View(MIDDLE, then=(Gray(0.2), Jitter(1.0, hue=0.4)))
SUPCON = View(MIDDLE, then=(JITTER, Gray(0.2)))
PLAIN = View()
MOCO_V2 = View(MIDDLE, then=(JITTER, Gray(0.2), Blur(0.5)))
MOCO_V3 = View(then=(WEAK_SATURATION, Gray(0.2)))
SIMCLR = View(TENSORFLOW, then=(replace(STRONG, semantics="simclr"), Gray(0.2), Blur(0.5, border="zero")))
BYOL = View(TENSORFLOW, then=(replace(WEAK_SATURATION, semantics="byol"), Gray(0.2), Blur(border="zero")))
BARLOW = View(BICUBIC, then=(WEAK_SATURATION, Gray(0.2)))
SWAV = View(Crop((0.14, 1.0)), then=(STRONG, Gray(0.2), Blur(0.5)))
# Distortions of Inception (arXiv:1512.00567); flips and crops, of the whole grid, are ours.
CPC = View(Crop((0.5, 1.0)), then=(Jitter(0.8, 32 / 255, 0.5, 0.5, 0.2, semantics="byol"), Gray(0.25)))
CPC_CIFAR = View(Crop((0.77, 1.0), (1.0, 1.0)), then=(Jitter(0.8, hue=0.2), Gray(0.25)))  # shifts by 4 of 32 pixels
INFOMIN = View(
    MIDDLE,  # the sigma is that of the code; its paper does not say
    then=(STRONG, Blur(0.5, sigma=(0.1, 2.0), border="reflect"), RandAugment(0.5), Gray(0.2)),
)
JIGSAW = View(Crop((0.6, 1.0)))
CAST = change(INSTDISC, jitter=0.5, cover=0.2)
CIFAR_STRONG = View(BICUBIC, then=(STRONG, Gray(0.2), Blur(0.5)))

WEAK = View(Crop((0.5, 1.0)), flip=0.0)  # of SLIP; captions may tell left from right

RGB = SPACES["rgb"]
BARE = RGB._replace(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
CIFAR = RGB._replace(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
CLIP = RGB._replace(mean=(0.4815, 0.4578, 0.4082), std=(0.2686, 0.2613, 0.2758))

# The number behind a row is its paper's on arXiv.
RECIPES = {
    "instdisc": Entry((INSTDISC,)),  # 1805.01978
    "deepcluster": Entry((PLAIN,)),  # 1807.05520
    "cpc_v1": Entry(  # 1807.03748
        (), (View(Crop((0.73, 0.73), (1.0, 1.0)), then=(Gray(0.5),)),), 64 / 256, Patches(stride=0.5)
    ),
    "cpc": Entry((), (CPC,), 80 / 260, Patches(stride=36 / 80)),  # 1905.09272
    "cpc_cifar": Entry((), (CPC_CIFAR,), 8 / 32, Patches(stride=0.5), space=CIFAR),  # lightning-bolts
    "cmc": Entry((PLAIN,), space=SPACES["lab"]),  # 1906.05849, crops of its ResNet; those of its AlexNet are (0.2, 1.0)
    "supervised": Entry((PLAIN,)),  # 1512.03385, as torchvision
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
        twice(SWAV), 6 * (change(SWAV, crop=(0.05, 0.14)),), space=RGB._replace(std=(0.228, 0.224, 0.225))
    ),
    "dino": Entry(  # 2104.14294
        pair(change(BARLOW, crop=(0.4, 1.0))), 8 * (change(BARLOW, crop=(0.05, 0.4), blur=0.5),)
    ),
    "ibot": Entry(  # 2111.07832
        pair(change(BARLOW, crop=(0.25, 1.0))), 10 * (change(BARLOW, crop=(0.05, 0.25), blur=0.5),)
    ),
    "supcon": Entry(twice(SUPCON)),  # 2004.11362
    "infomin": Entry(  # 2005.10243; its small views are 64 of the 85 pixels of each of 3 x 3 cells
        twice(INFOMIN), (JIGSAW,), 64 / 224, Patches(cell=85 / 64, side=3)
    ),
    "cast": Entry(twice(CAST)),  # 2012.04630
    "mae": Entry((change(PLAIN, crop=(0.2, 1.0), resample="bicubic"),)),  # 2111.06377
    "simmim": Entry((change(PLAIN, crop=(0.67, 1.0)),)),  # 2111.09886
    "ijepa": Entry((View(Crop((0.3, 1.0)), flip=0.0),)),  # 2301.08243
    "clip": Entry((View(Crop((0.9, 1.0), resample="bicubic"), flip=0.0),), space=CLIP),  # 2103.00020, as open_clip
    "slip": Entry((WEAK, *twice(View(then=(JITTER, Gray(0.2), Blur(0.5)))))),  # 2112.12750: CLIP's view, SimCLR's two
    "detailclip": Entry(twice(change(BARLOW, crop=(0.14, 1.0), blur=0.1, solarize=0.2, flip=0.0))),  # 2409.06809
    "cifar_symmetric": Entry(twice(CIFAR_STRONG), space=CIFAR),  # solo-learn, 2108.01775
    "cifar_asymmetric": Entry((BARLOW, change(BARLOW, solarize=0.2)), space=CIFAR),  # solo-learn
    "cifar_reconstruction": Entry((View(BICUBIC),), space=CIFAR),  # solo-learn
}


def settings() -> dict[str, Field]:
    """Returns what a config may change in a recipe, by key; without a default, since it is as the paper has it."""
    own: dict[str, Any] = {
        "space": str,
        "mean": tuple,
        "std": tuple,
        "small_size": Annotated[int, positive],
        "small_views": Annotated[int, not_negative],
        "small_crop": Annotated[Range, shares],
        "one_branch": bool,
    }
    return {key: Field(annotation) for key, annotation in own.items()} | view_settings()


def recipe(
    name: str,
    size: int,
    small_size: int | None = None,
    small_views: int | None = None,
    small_crop: Range | None = None,
    one_branch: bool = False,
    dtype: str = "float32",
    **changes: Any,
) -> Recipe:
    """A paper's recipe at a given resolution, with changes.

    Args:
        name: of the paper, a row of `RECIPES`.
        size: side of the (large) views, or of the images that are cut into patches; in pixels.
        small_size: side of the small views or patches; None: in the paper's proportion to `size`.
        small_views: how many small views; None: as the paper. Of patches only 0 can be chosen: none. A recipe without
            small views makes them as SwAV's multi-crop does: as its first view, of a smaller share of the image.
        small_crop: area range of the small views, or of the crop that is cut into patches; None: as the paper.
        one_branch: whether the second large view is only cropped, resized and flipped, as in Figure 5 of SimCLR
            (arXiv:2002.05709).
        dtype: of the views: float32 or bfloat16, what the network computes in.
        **changes: keys of `changes.settings`, changed in every view (`crop`: in the large ones), or `mean` and `std`,
            or `space`, a row of `SPACES`, which comes with a mean and a deviation of its own.

    Raises:
        UserError: an unknown name or key, a value out of range, or small views where there are none.
    """
    if name not in RECIPES:
        raise UserError(f"unknown augmentation recipe {name!r}; {suggest(name, RECIPES)}")
    entry = RECIPES[name]
    check(name, entry, small_views, changes, named_small=small_size is not None or small_crop is not None)
    changes = {key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()}
    space = changed_space(entry.space, {key: changes.pop(key) for key in ("space", "mean", "std") if key in changes})
    large = tuple(change(view, **changes) for view in entry.large)
    if one_branch:
        if len(large) != 2:
            raise UserError(f"one_branch takes two large views and the recipe {name!r} has {len(large)}; leave it out")
        large = (large[0], replace(large[1], then=()))
    groups = [Group(large, size)] if large else []
    count = len(entry.small) if small_views is None else small_views
    if count:
        groups.append(small_group(entry, size, count, small_size, small_crop, changes))
    if not groups:
        raise UserError(f"the recipe {name!r} without its patches has no views: leave small_views out")
    return Recipe(tuple(groups), space, dtype)


def check(name: str, entry: Entry, small_views: int | None, changes: Mapping[str, Any], named_small: bool) -> None:
    """Checks that a recipe has what is to be changed.

    Raises:
        UserError: if it does not.
    """
    known = settings()
    for key in changes:
        if key not in known:
            raise UserError(f"augmentation has no field {key!r}; {suggest(key, known)}")
    if not entry.large and "crop" in changes:
        raise UserError(f"the recipe {name!r} has no large views: in place of crop, set small_crop")
    if entry.patches and small_views:
        raise UserError(f"the patches of the recipe {name!r} are as many as its grid has: leave small_views out")
    if named_small and not entry.small and not small_views:
        raise UserError(
            f"the recipe {name!r} has no small views: set small_views, or leave small_size and small_crop out"
        )


def changed_space(space: Space, changes: dict[str, Any]) -> Space:
    """Returns a colour space, or the one named `space` in the changes, with another `mean` and `std`."""
    name = changes.pop("space", None)
    if name is not None and name not in SPACES:
        raise UserError(f"there is no colour space {name!r}; {suggest(name, SPACES)}")
    return (space if name is None else SPACES[name])._replace(**changes)


def small_group(
    entry: Entry, size: int, count: int, small_size: int | None, area: Range | None, changes: dict[str, Any]
) -> Group:
    """Returns the small views or the patches of a recipe."""
    first = entry.small[0] if entry.small else change(entry.large[0], crop=SMALL_AREA)
    view = change(first, **changes | {"crop": tuple(area or first.crop.area)})
    side = small_size or round(size * entry.scale)
    if entry.patches:
        grid = entry.patches.grid(side, size)
        return Group((view,) * grid.side**2, side, "patch", grid)
    return Group((view,) * count, side, "small")
