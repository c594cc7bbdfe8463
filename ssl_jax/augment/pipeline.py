"""A batch of canvases -> augmented views, on the device."""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.augment.color import normalize
from ssl_jax.augment.operation import BLACK
from ssl_jax.augment.patches import patch_box
from ssl_jax.augment.planes import Planes, each, join, split
from ssl_jax.augment.resampling import resample
from ssl_jax.augment.spaces import Space
from ssl_jax.augment.view import Draw, Group, Recipe, View
from ssl_jax.augment.views import Buckets, Views, bucket
from ssl_jax.numeric import widen

CANVAS = ("image", "box", "mask", "segments")  # what of a raw batch the views are made from; all else is handed on
PLACE = 2  # uniform numbers for the place of a patch in its cell
CAPTION = np.uint32(2**32 - 1)  # stands where views have their number


def batch(recipe: Recipe, key: jax.Array, raw: Mapping[str, jax.Array], visit) -> dict:
    """Turns a raw batch of the host into the batch that methods receive.

    The randomness depends on (key, visit, example index, view) and on nothing else: an example gets the same pixels
    wherever it lies in the batch and on any number of devices.

    Args:
        recipe: what to do, see `recipe`.
        key: a PRNG key, the run's seed.
        raw: `image` uint8 [B, H, W, 3]; `box` int32 [B, 4], (top, left, height, width) of the image on its canvas;
            `index` int32 [B], the example's position in the source; where the source has masks of salient regions,
            `mask` uint8 [B, H, W]; where it has captions, `text` int32 [B, C, L], the tokens of C captions of each
            image, of which those that start with 0 are not there; and its further fields.
        visit: which visit of the examples this is, int [] or [B]; see `data.Order`.

    Returns:
        `views`, a `Views` with an array [B, V, size, size, 3] per group of the recipe, in its colour space and type,
        normalised; with masks, `salience`, a tuple with an array [B, V, size, size] in [0, 1] per group, the
        salience in each view; with captions, `text` int32 [B, L], one of them; and the other fields of the source
        (`index`, `label`), unchanged.
    """
    seen: dict = {name: array for name, array in raw.items() if name not in CANVAS}
    if "text" in raw:
        seen["text"] = caption(key, raw["text"], raw["index"], visit)
    seen["views"] = views(recipe, key, raw, visit)
    if "mask" in raw:
        seen["salience"] = salience(recipe, key, raw, visit)
    return seen


def views(recipe: Recipe, key: jax.Array, raw: Mapping[str, jax.Array], visit) -> Views:
    """The `views` of a `batch`."""
    fill = recipe.space.to_rgb(each(jnp.asarray, recipe.space.mean))

    def picture(view, drawn, image, size):
        return finish(recipe.space, transform(view, drawn, split(image), size, fill)).astype(recipe.dtype)

    made = every_view(recipe, key, raw, visit, picture, raw["image"])
    return Views(made, [group.role for group in recipe.groups])


def salience(recipe: Recipe, key: jax.Array, raw: Mapping[str, jax.Array], visit) -> tuple[jax.Array, ...]:
    """The `salience` of a `batch`."""

    def shown(view, drawn, mask, size):
        planes = crop(view, drawn, (mask, mask, mask), size)  # as a grey picture; the compiler drops what is not used
        for operation, its in zip(view.then, drawn.then, strict=True):
            planes = operation.follow(planes, its)
        return planes[0]

    return every_view(recipe, key, raw, visit, shown, raw["mask"])


def caption(key: jax.Array, text: jax.Array, index: jax.Array, visit) -> jax.Array:
    """The `text` of a `batch`: any caption of an image is as likely as another."""

    def one(visit, index, tokens):
        uniform = jax.random.uniform(functools.reduce(jax.random.fold_in, (visit, index, CAPTION), key))
        return tokens[jnp.floor(uniform * jnp.sum(tokens[:, 0] > 0).astype(uniform.dtype)).astype(int)]

    return jax.vmap(one)(jnp.broadcast_to(visit, index.shape), index, text)


def every_view(
    recipe: Recipe, key: jax.Array, raw: Mapping[str, jax.Array], visit, make: Callable, array: jax.Array
) -> tuple[jax.Array, ...]:
    """Returns what `make(view, drawn, row of the array, size)` makes for all views, an array [B, V, ...] a group."""
    index = raw["index"]
    count = max(view.numbers for view in recipe.views) + PLACE

    def numbers(visit, index, view):
        return jax.random.uniform(functools.reduce(jax.random.fold_in, (visit, index, view), key), (count,))

    lengths = [len(group.views) for group in recipe.groups]
    of_each_view = jax.vmap(numbers, in_axes=(None, None, 0))
    of_each_example = jax.vmap(of_each_view, in_axes=(0, 0, None))
    uniform = of_each_example(jnp.broadcast_to(visit, index.shape), index, jnp.arange(sum(lengths)))
    groups = zip(recipe.groups, parts(uniform, lengths), strict=True)
    return tuple(views_of(group, uniform, raw, make, array) for group, uniform in groups)


def parts(array: jax.Array, lengths: Sequence[int]) -> list[jax.Array]:
    """Cuts [B, V, ...] into pieces of these many views."""
    return jnp.split(array, list(itertools.accumulate(lengths))[:-1], axis=1)


def views_of(group: Group, uniform: jax.Array, raw: Mapping[str, jax.Array], make: Callable, array: jax.Array) -> Any:
    """What is made for the views of one group from uniform numbers [B, V, N]: [B, V, ...], or `Buckets`."""
    if group.buckets:
        return views_of_buckets(group, uniform, raw, make, array)
    if group.grid:
        shared = group.views[0].shared
        uniform = uniform.at[:, :, :shared].set(uniform[:, :1, :shared])

    def one(view, cell, uniform, row, valid, mask):
        drawn = view.draw(uniform, valid, mask)
        if group.grid:
            place = uniform[view.numbers : view.numbers + PLACE]
            drawn = drawn._replace(box=patch_box(group.grid, group.size, cell, place, drawn.crop, drawn.flip))
        return make(view, drawn, row, group.size)

    def run(view, uniform):
        cells = jnp.arange(uniform.shape[1])
        of_each_view = jax.vmap(functools.partial(one, view), in_axes=(0, 0, None, None, None))
        of_each_example = jax.vmap(of_each_view, in_axes=(None, 0, 0, 0, 0))
        return of_each_example(cells, uniform, array, raw["box"], raw.get("mask"))

    # Equal views that follow each other are compiled once.
    runs = [(view, len(list(same))) for view, same in itertools.groupby(group.views)]
    shares = parts(uniform, [length for _, length in runs])
    return jnp.concatenate([run(view, share) for (view, _), share in zip(runs, shares, strict=True)], axis=1)


def views_of_buckets(group: Group, uniform, raw, make, array) -> Buckets:
    """The views of a group of several sizes: for each bucket those of its rows."""
    made = []
    for i, own in enumerate(group.buckets):
        rows = functools.partial(bucket, i=i, count=len(group.buckets))
        canvas = {name: rows(raw[name]) for name in CANVAS if name in raw}
        made.append(views_of(own, rows(uniform), canvas, make, rows(array)))
    return Buckets(made)


def transform(view: View, drawn: Draw, image: Planes, size: int, fill: Sequence = BLACK) -> Planes:
    """Applies a drawn transformation to an image (uint8 planes [H, W]): planes [size, size] in [0, 1].

    `fill` is the colour of what operations leave empty.
    """
    image = crop(view, drawn, image, size)
    for operation, its in zip(view.then, drawn.then, strict=True):
        image = operation(image, its, fill)
    return image


def crop(view: View, drawn: Draw, image: Planes, size: int) -> Planes:
    """Cuts out, resizes and mirrors what was drawn: planes [size, size] in [0, 1]."""
    return unit(resample(image, drawn.box, size, view.crop.resample, view.crop.antialias, drawn.flip, drawn.crop))


def center(recipe: Recipe, batch: Mapping[str, jax.Array], size: int, fraction: float = 1.0) -> jax.Array:
    """The view for evaluation: shorter side resized to size / fraction pixels, then the centre (as torchvision does).

    Args:
        recipe: its colour space and normalisation are used.
        batch: `image` uint8 [B, H, W, 3] and `box` int32 [B, 4].
        size: side of the result, in pixels; pixels are copied where that needs no resizing.
        fraction: of the shorter side that is seen, in (0, 1]; 0.875 is the usual 224 of 256 pixels.

    Returns:
        [B, size, size, 3], normalised.
    """

    def one(image, valid):
        image = resample(split(image), center_box(valid, size, fraction), size, "bicubic", bounds=valid)
        return finish(recipe.space, unit(image))

    return jax.vmap(one)(batch["image"], batch["box"])


def center_mask(batch: Mapping[str, jax.Array], size: int, fraction: float = 1.0) -> jax.Array:
    """Returns what the view of `center` shows of the `mask` uint8 [B, H, W] of a batch: bool [B, size, size]."""

    def one(mask, valid):
        plane, _, _ = resample((mask, mask, mask), center_box(valid, size, fraction), size, bounds=valid)
        return plane > 127.5

    return jax.vmap(one)(batch["mask"], batch["box"])


def center_segments(batch: Mapping[str, jax.Array], size: int, fraction: float = 1.0) -> jax.Array:
    """Returns what the view of `center` shows of the `segments` [B, H, W] of a batch: whole pixels [B, size, size]."""

    def one(segments, valid):
        box = center_box(valid, size, fraction)
        place = (jnp.arange(size, dtype=float) + 0.5) / size
        rows, columns = (
            jnp.clip(jnp.floor(box[i] + place * box[i + 2]).astype(int), valid[i], valid[i] + valid[i + 2] - 1)
            for i in (0, 1)
        )
        return segments[rows[:, None], columns[None, :]]

    return jax.vmap(one)(batch["segments"], batch["box"])


def center_box(valid: jax.Array, size: int, fraction: float) -> jax.Array:
    """Where on the canvas the view of `center` lies: float [4], (top, left, height, width) in pixels."""
    extent = valid[2:]
    resized = extent * round(size / fraction) // extent.min()
    scale = extent.astype(float) / resized.astype(float)
    margin = jnp.round((resized - size).astype(float) / 2)
    return jnp.concatenate([valid[:2].astype(float) + margin * scale, size * scale])


def unit(image: Planes) -> Planes:
    """Levels 0 to 255 -> [0, 1]; what bicubic overshoots is cut off."""
    return each(lambda x: jnp.clip(x / 255, 0.0, 1.0), image)


def finish(space: Space, image: Planes) -> jax.Array:
    """RGB planes in [0, 1] -> [..., H, W, 3] in a colour space, normalised."""
    return join(normalize(space.from_rgb(image), space.mean, space.std))


def denormalize(recipe: Recipe, image: jax.Array) -> jax.Array:
    """Views [..., H, W, 3] back to RGB in [0, 1], to look at them."""
    return jnp.clip(join(to_rgb(recipe.space, image)), 0.0, 1.0)


def convert(image: jax.Array, space: Space, other: Space) -> jax.Array:
    """Images [..., H, W, 3] as views of one colour space, as those of another."""
    return image if space == other else finish(other, to_rgb(space, image))


def to_rgb(space: Space, image: jax.Array) -> Planes:
    return space.to_rgb(each(lambda x, m, s: x * s + m, split(widen(image)), space.mean, space.std))
