"""Cross-resolution training: at which sizes a run sees its images, and the consistency between sizes."""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.augment import Group, Recipe, Views, views
from ssl_jax.errors import UserError
from ssl_jax.fields import Rule, all_lasting, not_negative, one_of
from ssl_jax.losses import info_nce_pairs
from ssl_jax.method import Batch, Method, PyTree, apply
from ssl_jax.numeric import l2_normalize
from ssl_jax.words import number_of

BY_STEP = ("random", "ramp", "repeat")  # one size per step
MODES = ("all", "mixed", *BY_STEP)
CONSISTENCIES = ("none", "smooth_l1", "cosine", "contrastive")
TEMPERATURE = 0.2  # of the contrastive consistency

ascending = Rule(
    lambda value: all(side > 0 for side in value) and list(value) == sorted(value),
    "sizes in pixels from the smallest, as in (16,24,32)",
)
areas = Rule(
    lambda value: all(len(one) == 2 and 0 < one[0] <= one[1] <= 1 for one in value),
    "a pair (low, high) with 0 < low <= high <= 1 for each size, as in ((0.4,1.0),(0.2,1.0))",
)

rates = Rule(lambda value: all(0 < one < math.inf for one in value), "factors, each more than 0")
sides = Rule(lambda value: all(side > 0 for side in value), "sides in pixels, each more than 0")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The sizes of the large views during training; `data.size` is that of evaluation.

    `mode` says how they share the training:

        all     each image has its large views at the largest size, and as many views at every other size, which like
                the small views of multi-crop are only predicted from or queried with; so it is if no mode is set
        mixed   each image of a batch has one of the sizes, equally many each; a size may be listed twice
        random  all images of a step have one size, drawn from the seed and the step
        ramp    one size per step, from the first at `ramp[0]` to the last at `ramp[1]` (progressive resizing)
        repeat  each epoch is repeated at each size

    Small views keep their proportion to the large ones, unless `augment.small_size` is set. If a size is listed several
    times with other `patches`, the size of the patches alone changes from step to step (FlexiViT, Beyer et al. 2022,
    arXiv:2212.08013, section 3).
    """

    sizes: Annotated[tuple[int, ...], ascending] = ()  # pixels, from the smallest; none: data.size alone
    mode: Annotated[str, one_of(MODES)] | None = None  # None: all, but as it began for a run from before that
    # Area range of the crops per size; none: the recipe's.
    crops: Annotated[tuple[tuple[float, float], ...], areas] = ()
    # Factor of the learning rate per size, for one size per step; none: 1.
    learning_rates: Annotated[tuple[float, ...], rates] = ()
    # Side of a vision transformer's patches per size, for one size per step; none: the network's.
    patches: Annotated[tuple[int, ...], sides] = ()
    # Durations at which a ramp starts and ends.
    ramp: Annotated[tuple[str, str], all_lasting] = ("0 epochs", "0 epochs")
    consistency: Annotated[str, one_of(CONSISTENCIES)] = "none"
    weight: Annotated[float, not_negative] = 1.0  # of the consistency in the loss

    @property
    def by_step(self) -> bool:
        """Whether all images of a step have one size."""
        return bool(self.sizes) and self.mode in BY_STEP

    def check(self, data_size: int) -> None:
        """Checks that the settings fit each other.

        Raises:
            UserError: if they do not.
        """
        count = len(self.sizes)
        for name in ("crops", "learning_rates", "patches"):
            given = len(getattr(self, name))
            if given not in (0, count):
                values = number_of(given, "value")
                raise UserError(
                    f"resolution.{name} has {values} for {number_of(count, 'size')}; give one for each size"
                )
        for name in ("learning_rates", "patches"):
            if getattr(self, name) and not self.by_step:
                raise UserError(
                    f"resolution.{name} needs one size per step, but resolution.mode is {self.mode or 'all'!r}; "
                    f"set it to {', '.join(BY_STEP)}, or leave {name} out"
                )
        if self.consistency != "none" and count < 2:
            raise UserError("resolution.consistency compares sizes; set resolution.sizes to two or more, as in (16,32)")
        if count and self.sizes[-1] < data_size:
            raise UserError(
                f"resolution.sizes end at {self.sizes[-1]} pixels and data.size, at which features are evaluated, is "
                f"{data_size}; add it to the sizes or lower data.size"
            )


def recipes(settings: Settings, make: Callable[..., Recipe], data_size: int) -> tuple[Recipe, ...]:
    """Returns the recipes of a run: one per size if each step has one, else one.

    Args:
        settings: the sizes.
        make: returns the recipe for a size, and optionally the area range of its crops.
        data_size: the size without settings.
    """
    if not settings.sizes:
        return (make(data_size),)
    each = tuple(make(size, *crop) for size, crop in zip(settings.sizes, crops(settings), strict=True))
    if settings.by_step:
        return each
    *smaller, largest = each
    if settings.mode == "mixed":
        buckets = tuple(large(recipe) for recipe in each)
        mixed = dataclasses.replace(buckets[-1], buckets=buckets)
        return (dataclasses.replace(largest, groups=(mixed, *largest.groups[1:])),)
    others = tuple(dataclasses.replace(large(recipe), role="small") for recipe in reversed(smaller))
    return (dataclasses.replace(largest, groups=(*largest.groups[:1], *others, *largest.groups[1:])),)


def with_patches(method: Method, settings: Settings, number: int) -> Method:
    """Returns a method whose network cuts images into the patches of a position in `settings.sizes`."""
    if not settings.patches:
        return method
    encoder = method.network.encoder.clone(view_patch=settings.patches[number])
    return dataclasses.replace(method, network=method.network.clone(encoder=encoder))


def crops(settings: Settings) -> list[tuple]:
    """Returns the arguments after the size, of each size, for the maker of a recipe."""
    return [(crop,) for crop in settings.crops] or [()] * len(settings.sizes)


def large(recipe: Recipe) -> Group:
    """Returns the group of large views of a recipe.

    Raises:
        UserError: if it has none.
    """
    if recipe.groups[0].role != "large":
        raise UserError("the recipe has no large views, whose size could vary; leave resolution.sizes out")
    return recipe.groups[0]


def schedule(
    settings: Settings, seed: int, steps_per_epoch: int, to_steps: Callable[[str], int]
) -> Callable[[int], int]:
    """Returns the function from a step to the position of its size in `settings.sizes`, the same on every host."""
    count = len(settings.sizes)
    if not settings.by_step:
        return lambda step: 0
    if settings.mode == "random":
        return lambda step: int(np.random.Philox(key=[seed, step]).random_raw() % count)
    if settings.mode == "repeat":
        return lambda step: step // steps_per_epoch % count
    begin, end = map(to_steps, settings.ramp)
    if end <= begin:
        raise UserError(
            f"resolution.ramp ends at {settings.ramp[1]!r}, not after its start at {settings.ramp[0]!r}; set both, as "
            "in ('10 epochs','30 epochs')"
        )

    def ramp(step):
        progress = min(max((step - begin) / (end - begin), 0.0), 1.0)
        return round(progress * (count - 1))

    return ramp


def same_crop(settings: Settings, recipe: Recipe, key: jax.Array, raw: Batch, visit: jax.Array) -> Views:
    """Returns the first large view of each image at all sizes, [B, 1, H, W, C] each, from the largest.

    Args:
        settings: the sizes.
        recipe: whose first view is shown.
        key: the seed of the run.
        raw: see `augment.batch`.
        visit: likewise.
    """
    first = recipe.groups[0].views[:1]
    groups = [Group(first, size) for size in reversed(settings.sizes)]
    # Each has a recipe of its own, in which it is the first view, so that all are drawn with the same numbers.
    return Views(views(dataclasses.replace(recipe, groups=(group,)), key, raw, visit)[0] for group in groups)


def penalty(
    settings: Settings, method: Method, params: PyTree, state: PyTree, batch: Batch, key: jax.Array
) -> dict[str, jax.Array]:
    """Returns `consistency`, the weighted loss, of a batch whose `sizes` are the result of `same_crop`."""
    variables = Method.variables(method, params, state)  # the trained network, whatever the method evaluates
    outputs, _ = apply(method.network, variables, batch["sizes"], key)
    return {"consistency": settings.weight * consistency(settings.consistency, outputs.features)}


def consistency(kind: str, features: jax.Array) -> jax.Array:
    """Returns how far features at each size are from those at the next larger one, which gets no gradient.

    Args:
        kind: "smooth_l1" of standardised features (ResFormer, Tian et al. 2022, arXiv:2212.00776, section 3.2, where
            the features at the smaller size go through a linear map first), "cosine": one minus it, or "contrastive":
            InfoNCE among the images of the batch.
        features: [B, R, D] at R sizes, from the largest.

    Returns:
        A scalar, the mean over images and neighbouring sizes.
    """
    lower, higher = features[:, 1:], jax.lax.stop_gradient(features[:, :-1])
    if kind == "smooth_l1":
        distance = jnp.abs(standardize(lower) - standardize(higher))
        return jnp.mean(jnp.where(distance < 1, 0.5 * distance**2, distance - 0.5))
    lower, higher = l2_normalize(lower), l2_normalize(higher)
    if kind == "cosine":
        return 1 - jnp.mean(jnp.sum(lower * higher, axis=-1))
    pairs = [info_nce_pairs(lower[:, i], higher[:, i], TEMPERATURE) for i in range(lower.shape[1])]
    return jnp.mean(jnp.stack(pairs))


def standardize(features: jax.Array) -> jax.Array:
    """Returns features [..., D] with mean 0 and variance 1 over D."""
    centred = features - features.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-6)
