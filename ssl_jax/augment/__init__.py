"""Augmentation on the device: operations on one image, the papers' recipes, batches of images -> views.

    recipe = augment.recipe("byol", size=224)
    (pictures,) = jax.jit(augment.views, static_argnums=0)(recipe, key, batch, epoch)  # [B, 2, 224, 224, 3]

The operations take an image as three planes: `join(blur(split(image), sigma=1.0, radius=4))`.
"""

from ssl_jax.augment.color import SEMANTICS, grayscale, hsv_to_rgb, jitter, normalize, rgb_to_hsv, solarize
from ssl_jax.augment.drawing import NUMBERS, Draw, crop_box, draw
from ssl_jax.augment.filters import blur, edges, sobel
from ssl_jax.augment.patches import Grid, cut
from ssl_jax.augment.pipeline import batch, center, center_box, convert, denormalize, masks, transform, views
from ssl_jax.augment.planes import Planes, join, split
from ssl_jax.augment.recipes import RECIPES, recipe
from ssl_jax.augment.resampling import resample
from ssl_jax.augment.spaces import SPACES, Space, lab_to_rgb, rgb_to_lab, rgb_to_ycbcr, ycbcr_to_rgb
from ssl_jax.augment.view import Group, Recipe, View, describe
from ssl_jax.augment.views import Views

__all__ = [
    "NUMBERS",
    "RECIPES",
    "SEMANTICS",
    "SPACES",
    "Draw",
    "Grid",
    "Group",
    "Planes",
    "Recipe",
    "Space",
    "View",
    "Views",
    "batch",
    "blur",
    "center",
    "center_box",
    "convert",
    "crop_box",
    "cut",
    "denormalize",
    "describe",
    "draw",
    "edges",
    "grayscale",
    "hsv_to_rgb",
    "jitter",
    "join",
    "lab_to_rgb",
    "masks",
    "normalize",
    "recipe",
    "resample",
    "rgb_to_hsv",
    "rgb_to_lab",
    "rgb_to_ycbcr",
    "sobel",
    "solarize",
    "split",
    "transform",
    "views",
    "ycbcr_to_rgb",
]
