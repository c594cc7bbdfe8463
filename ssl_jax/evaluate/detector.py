"""A small anchor-free detector on the last map of an encoder."""

import dataclasses
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ssl_jax.method import Method, Result, initialize, look
from ssl_jax.numeric import widen

PRIOR = 0.01  # probability of each class in each patch at the start
CANDIDATES = 300  # boxes of an image, before duplicates are left out


class Guess(NamedTuple):
    """What a head says of each patch."""

    classes: jax.Array  # [B, S, K], logits
    sides: jax.Array  # [B, S, 4], logarithms of the distances to the left, top, right and bottom, in patches
    central: jax.Array  # [B, S], logit of the centerness


class Target(NamedTuple):
    """What a head should say of each patch."""

    label: jax.Array  # int [B, S], -1 where there is no box
    sides: jax.Array  # [B, S, 4], distances in patches; 1 where there is no box
    central: jax.Array  # [B, S], centerness


class Head(nn.Module):
    """Two towers of convolutions on a map [B, rows, columns, C], one for classes and one for boxes.

    Attributes:
        classes: their number.
        width: channels of a tower.
        depth: convolutions of a tower.
    """

    classes: int
    width: int = 128
    depth: int = 2

    @nn.compact
    def __call__(self, x) -> Guess:
        def tower(name):
            y = x
            for i in range(1, self.depth + 1):
                y = nn.Conv(self.width, (3, 3), use_bias=False, name=f"{name}_conv{i}")(y)
                y = nn.relu(nn.GroupNorm(num_groups=self.width // 8, name=f"{name}_norm{i}")(y))
            return y

        def end(y, channels, name, start=0.0):
            first = nn.initializers.normal(0.01), nn.initializers.constant(start)
            y = nn.Conv(channels, (3, 3), kernel_init=first[0], bias_init=first[1], name=name)(y)
            return y.reshape(len(y), -1, channels)

        shape = tower("box")
        classes = end(tower("class"), self.classes, "classes", math.log(PRIOR / (1 - PRIOR)))
        return Guess(classes, end(shape, 4, "sides"), end(shape, 1, "central")[..., 0])


def centres(grid: tuple[int, int]) -> jax.Array:
    """Returns the (x, y) of the centres of patches [S, 2], as shares of the width and the height."""
    rows, columns = ((jnp.arange(n, dtype=float) + 0.5) / n for n in grid)
    return jnp.stack(jnp.meshgrid(columns, rows), axis=-1).reshape(-1, 2)


def scale(grid: tuple[int, int]) -> jax.Array:
    """Returns how many patches the left, top, right and bottom distance 1 is, [4]."""
    return jnp.array(grid[::-1] * 2, float)


def target_of(boxes: jax.Array, grid: tuple[int, int]) -> Target:
    """Returns what a head should say, given boxes [B, M, 5] as in `data.Boxes`.

    Each patch whose centre is in a box should find it, of several the smallest.
    """
    points, corners, label = centres(grid)[None, :, None], boxes[:, None, :, :4], boxes[..., 4].astype(jnp.int32)
    sides = jnp.concatenate([points - corners[..., :2], corners[..., 2:] - points], axis=-1)  # [B, S, M, 4]
    inside = (sides.min(axis=-1) > 0) & (label >= 0)[:, None]
    area = jnp.prod(boxes[..., 2:4] - boxes[..., :2], axis=-1)
    chosen = jnp.argmin(jnp.where(inside, area[:, None], jnp.inf), axis=-1)  # [B, S]
    found = jnp.any(inside, axis=-1)
    own = jnp.take_along_axis(sides, chosen[..., None, None], axis=2)[:, :, 0] * scale(grid)[None, None]
    own = jnp.where(found[..., None], own, 1.0)
    low, high = (pick(own.reshape(*own.shape[:2], 2, 2), axis=2) for pick in (jnp.min, jnp.max))
    label = jnp.where(found, jnp.take_along_axis(label, chosen, axis=1), -1)
    return Target(label, own, jnp.sqrt(jnp.prod(low / high, axis=-1)))


def detection_loss(guess: Guess, target: Target) -> jax.Array:
    """Returns the focal loss of classes, the IoU loss of boxes and the cross-entropy of centerness, added.

    Each is a sum over the patches of the batch, over the number of those in a box.

    Source: Tian et al. 2019 (FCOS, arXiv:1904.01355), equation 2 and section 3.3.
    """
    inside = target.label >= 0
    truth = jax.nn.one_hot(target.label, guess.classes.shape[-1])
    classes = jnp.sum(optax.sigmoid_focal_loss(guess.classes, truth, alpha=0.25, gamma=2.0))
    sides = jnp.exp(guess.sides)
    shared = area(jnp.minimum(sides, target.sides))
    overlap = shared / (area(sides) + area(target.sides) - shared)
    central = optax.sigmoid_binary_cross_entropy(guess.central, target.central)
    return (classes + jnp.sum(central - jnp.log(overlap), where=inside)) / jnp.maximum(
        jnp.sum(inside, dtype=float), 1.0
    )


def area(sides: jax.Array) -> jax.Array:
    """Returns the area [...] of boxes, given the distances of a point in them to their sides [..., 4]."""
    return jnp.prod(sides[..., :2] + sides[..., 2:], axis=-1)


def candidates(guess: Guess, grid: tuple[int, int]) -> jax.Array:
    """Returns the best boxes of each image with duplicates, [B, n, 6], (left, top, right, bottom, class, score)."""
    scores = jax.nn.sigmoid(guess.classes) * jax.nn.sigmoid(guess.central)[..., None]
    count = scores.shape[-1]
    flat = scores.reshape(len(scores), -1)
    score, place = jax.lax.top_k(flat, min(CANDIDATES, flat.shape[1]))
    sides, points = jnp.exp(guess.sides) / scale(grid)[None, None], centres(grid)[None]
    boxes = jnp.clip(jnp.concatenate([points - sides[..., :2], points + sides[..., 2:]], axis=-1), 0.0, 1.0)
    boxes = jnp.take_along_axis(boxes, (place // count)[..., None], axis=1)
    return jnp.concatenate([boxes, (place % count)[..., None].astype(boxes.dtype), score[..., None]], axis=-1)


@dataclasses.dataclass(frozen=True)
class Detector(Method):
    """A head on an encoder, which is trained with it or not; BatchNorm keeps the statistics that it has.

    Source: Tian et al. 2019 (FCOS, arXiv:1904.01355), with one level, and centerness beside the boxes.
    """

    head: Head
    tuned: bool = False  # whether the encoder is trained

    def init(self, key, batch):
        variables, _ = initialize(self.network, key, batch["views"])
        params, state = {"network": variables.params}, self.State(variables.stats)
        maps, _ = self.maps(params, state, batch["views"][0][:, 0])
        return params | {"head": self.head.init(jax.random.fold_in(key, 1), maps)["params"]}, state

    def maps(self, params, state, images):
        """Returns the last maps of the encoder [B, rows, columns, C], and the pooled features [B, D]."""
        encoding = look(self.network, self.variables(params, state), "encoding", images)
        maps = widen(encoding.patches).reshape(len(images), *encoding.grid, -1)
        return maps, widen(encoding.pooled)

    def loss(self, params, state, batch, key, step):
        maps, features = self.maps(params, state, batch["views"][0][:, 0])
        maps = maps if self.tuned else jax.lax.stop_gradient(maps)
        guess: Any = self.head.apply({"params": params["head"]}, maps)
        loss = detection_loss(guess, target_of(batch["boxes"], maps.shape[1:3]))
        return Result(loss, state, {}, features, features)

    def find(self, params, state, images: jax.Array) -> jax.Array:
        """Returns the boxes in normalised images [B, H, W, 3], see `candidates`."""
        maps, _ = self.maps(params, state, images)
        guess: Any = self.head.apply({"params": params["head"]}, maps)
        return candidates(guess, maps.shape[1:3])
