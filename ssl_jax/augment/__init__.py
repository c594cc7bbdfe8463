"""Augmentation on the device: operations on one image, the papers' recipes, batches of images -> views.

    recipe = augment.recipe("byol", size=224)
    (pictures,) = jax.jit(augment.views, static_argnums=0)(recipe, key, batch, epoch)  # [B, 2, 224, 224, 3]

The operations take an image as three planes: `join(blur(split(image), sigma=1.0, radius=4))`.
"""

from ssl_jax.augment.color import SEMANTICS, grayscale, hsv_to_rgb, jitter, normalize, rgb_to_hsv, rgb_to_lab, solarize
from ssl_jax.augment.drawing import NUMBERS, Draw, crop_box, draw
from ssl_jax.augment.filters import blur, sobel
from ssl_jax.augment.patches import Grid, cut
from ssl_jax.augment.pipeline import center, center_box, denormalize, transform, views
from ssl_jax.augment.planes import Planes, join, split
from ssl_jax.augment.recipes import RECIPES, recipe
from ssl_jax.augment.resampling import resample
from ssl_jax.augment.view import Group, Recipe, View, describe

__all__ = [
    "NUMBERS",
    "RECIPES",
    "SEMANTICS",
    "Draw",
    "Grid",
    "Group",
    "Planes",
    "Recipe",
    "View",
    "blur",
    "center",
    "center_box",
    "crop_box",
    "cut",
    "denormalize",
    "describe",
    "draw",
    "grayscale",
    "hsv_to_rgb",
    "jitter",
    "join",
    "normalize",
    "recipe",
    "resample",
    "rgb_to_hsv",
    "rgb_to_lab",
    "sobel",
    "solarize",
    "split",
    "transform",
    "views",
]
