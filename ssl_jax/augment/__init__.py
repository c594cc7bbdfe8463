"""Augmentation on the device: operations on one image, the papers' recipes, batches of images -> views.

    recipe = augment.recipe("byol", size=224)
    seen = jax.jit(augment.batch, static_argnums=0)(recipe, key, raw, visit)  # seen["views"][0]: [B, 2, 224, 224, 3]

A view is a value: `View(Crop((0.2, 1.0)), flip=0.5, then=(Jitter(0.8), Gray(0.2), Blur(0.5)))`. The operations take an
image as three planes: `join(blur(split(image), sigma=1.0, radius=4))`.
"""

from ssl_jax.augment.changes import OPERATIONS, change
from ssl_jax.augment.color import (
    SEMANTICS,
    Gray,
    Jitter,
    Solarize,
    grayscale,
    hsv_to_rgb,
    jitter,
    normalize,
    rgb_to_hsv,
    solarize,
)
from ssl_jax.augment.corruption import ColorDrop, Cutout, GaussianNoise
from ssl_jax.augment.crop import Crop, Whole, crop_box
from ssl_jax.augment.filters import Blur, Sobel, blur, edges, sobel
from ssl_jax.augment.geometry import Elastic, PadAndShift, Rotate90, Shear, warp
from ssl_jax.augment.operation import Operation
from ssl_jax.augment.patches import Grid, cut
from ssl_jax.augment.pipeline import (
    batch,
    center,
    center_box,
    center_mask,
    center_segments,
    convert,
    denormalize,
    salience,
    transform,
    views,
)
from ssl_jax.augment.planes import Planes, join, split
from ssl_jax.augment.randaugment import RandAugment
from ssl_jax.augment.recipes import RECIPES, recipe, settings
from ssl_jax.augment.resampling import resample
from ssl_jax.augment.spaces import SPACES, Space, lab_to_rgb, rgb_to_lab, rgb_to_ycbcr, ycbcr_to_rgb
from ssl_jax.augment.view import Draw, Group, Recipe, View, describe
from ssl_jax.augment.views import Buckets, Views, length, merge_buckets

__all__ = [
    "OPERATIONS",
    "RECIPES",
    "SEMANTICS",
    "SPACES",
    "Blur",
    "Buckets",
    "ColorDrop",
    "Crop",
    "Cutout",
    "Draw",
    "Elastic",
    "GaussianNoise",
    "Gray",
    "Grid",
    "Group",
    "Jitter",
    "Operation",
    "PadAndShift",
    "Planes",
    "RandAugment",
    "Recipe",
    "Rotate90",
    "Shear",
    "Sobel",
    "Solarize",
    "Space",
    "View",
    "Views",
    "Whole",
    "batch",
    "blur",
    "center",
    "center_box",
    "center_mask",
    "center_segments",
    "change",
    "convert",
    "crop_box",
    "cut",
    "denormalize",
    "describe",
    "edges",
    "grayscale",
    "hsv_to_rgb",
    "jitter",
    "join",
    "lab_to_rgb",
    "length",
    "merge_buckets",
    "normalize",
    "recipe",
    "resample",
    "rgb_to_hsv",
    "rgb_to_lab",
    "rgb_to_ycbcr",
    "salience",
    "settings",
    "sobel",
    "solarize",
    "split",
    "transform",
    "views",
    "warp",
    "ycbcr_to_rgb",
]
