"""The views of a batch, named by their role in the recipe."""

from collections.abc import Iterable, Sequence

import jax

ROLES = ("large", "small", "patch")


@jax.tree_util.register_pytree_node_class
class Views(tuple):
    """One array [B, V, H, W, C] per group of a recipe, with the role of each group.

    Args:
        arrays: one per group; large groups come first.
        roles: one of `ROLES` per group; None: all are large.
    """

    roles: tuple[str, ...]

    def __new__(cls, arrays: Iterable[jax.Array], roles: Sequence[str] | None = None):
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
    def count(self) -> int:
        """Views per image, over all groups."""
        return sum(array.shape[1] for array in self)

    def tree_flatten(self):
        return tuple(self), self.roles

    @classmethod
    def tree_unflatten(cls, roles, arrays):
        return cls(arrays, roles)
