"""The views of a batch, named by their role in the recipe."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

ROLES = ("large", "small", "patch")


@jax.tree_util.register_pytree_node_class
class Buckets(tuple):
    """A group of views whose images differ in size: R arrays [B / R, V, H_r, W_r, C]; row i of B is in the i % R-th.

    So each device has rows of every size, and taking the rows apart needs no communication.
    """

    def tree_flatten(self):
        return tuple(self), None

    @classmethod
    def tree_unflatten(cls, _, arrays):
        return cls(arrays)


def bucket(x: jax.Array, i: int, count: int) -> jax.Array:
    """Returns the rows of x [B, ...] that belong to one of `count` buckets: [B / count, ...]."""
    return x.reshape(-1, count, *x.shape[1:])[:, i]


def merge_buckets(parts: Sequence[jax.Array]) -> jax.Array:
    """Returns arrays [B / R, ...] of R buckets as [B, ...], in the order of the batch."""
    return jnp.stack(list(parts), axis=1).reshape(-1, *parts[0].shape[1:])


def length(group: jax.Array | Buckets) -> int:
    """Returns the number V of views of a group."""
    return jax.tree.leaves(group)[0].shape[1]


@jax.tree_util.register_pytree_node_class
class Views(tuple):
    """One array [B, V, H, W, C], or `Buckets`, per group of a recipe, with the role of each group.

    Args:
        arrays: one per group; large groups come first.
        roles: one of `ROLES` per group; None: all are large.
    """

    roles: tuple[str, ...]

    def __new__(cls, arrays: Iterable[Any], roles: Sequence[str] | None = None):
        views = super().__new__(cls, arrays)
        views.roles = ("large",) * len(views) if roles is None else tuple(roles)
        return views

    @property
    def large(self) -> "Views":
        """The groups whose views targets, keys and assignments are made from."""
        return self.of("large")

    @property
    def small(self) -> "Views":
        """The groups of small crops, which are only ever predicted from or queried with."""
        return self.of("small")

    @property
    def patch(self) -> "Views":
        """The groups whose views are the patches of a grid."""
        return self.of("patch")

    def of(self, *roles: str) -> "Views":
        """Returns the groups that have one of these roles."""
        chosen = [(array, role) for array, role in zip(self, self.roles, strict=True) if role in roles]
        return Views((array for array, _ in chosen), [role for _, role in chosen])

    @property
    def total(self) -> int:
        """Views per image, over all groups."""
        return sum(length(group) for group in self)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(large view, any later view), by their positions: the pairs that multi-crop compares.

        Source: SwAV (Caron et al. 2020, arXiv:2006.09882), equation 6.
        """
        return [(first, other) for first in range(self.large.total) for other in range(first + 1, self.total)]

    @property
    def directions(self) -> list[tuple[int, int]]:
        """(large view, any other view), by their positions: the target and what is compared with it, both ways."""
        return [(target, other) for target in range(self.large.total) for other in range(self.total) if other != target]

    def only(self, view: int) -> "Views":
        """Returns one view, by its position, as a group of its own: [B, 1, H, W, C]."""
        return self.select([view])

    def without(self, view: int) -> "Views":
        """Returns all views but one."""
        return self.select([other for other in range(self.total) if other != view])

    def select(self, chosen: Sequence[int]) -> "Views":
        """Returns the views at some positions, in their order; a group without any is left out."""
        groups, start = [], 0
        for array, role in zip(self, self.roles, strict=True):
            inside = [view - start for view in chosen if 0 <= view - start < length(array)]
            if inside:
                groups.append((jax.tree.map(lambda x, at=inside: take(x, at), array), role))
            start += length(array)
        return Views((array for array, _ in groups), [role for _, role in groups])

    def tree_flatten(self):
        return tuple(self), self.roles

    @classmethod
    def tree_unflatten(cls, roles, arrays):
        return cls(arrays, roles)


def take(x: jax.Array, views: Sequence[int]) -> jax.Array:
    """Returns some views of x [B, V, ...]."""
    return jnp.concatenate([x[:, i : i + 1] for i in views], axis=1)
