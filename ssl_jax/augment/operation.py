"""The base of augmentation operations: a frozen dataclass that draws its parameters and applies them to one image."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp

from ssl_jax.augment.planes import Planes, each
from ssl_jax.fields import Rule, check_fields, share

Range = tuple[float, float]
BLACK = (0.0, 0.0, 0.0)

interval = Rule(lambda value: len(value) == 2 and 0 < value[0] <= value[1], "(low, high) with 0 < low <= high")
shares = Rule(lambda value: len(value) == 2 and 0 < value[0] <= value[1] <= 1, "(low, high) with 0 < low <= high <= 1")


@dataclasses.dataclass(frozen=True)
class Operation:
    """One step of a view after its crop. Its fields say how often it happens and how strongly.

    A subclass says how many uniform numbers it needs, what it draws from all but the first (`choose`), and what it does
    with that (`change`); or, where some strength leaves an image as it is, how to `draw` and call it.
    """

    p: Annotated[float, share] = 1.0  # probability that it happens
    numbers: ClassVar[int] = 1  # uniform numbers that `draw` consumes; the first decides whether it happens
    moves: ClassVar[bool] = False  # whether pixels change their place

    def __post_init__(self):
        check_fields(self)

    @property
    def idle(self) -> bool:
        """Whether it never changes an image and can be left out."""
        return self.p == 0

    def draw(self, uniform: jax.Array) -> Any:
        """Returns what is done to one image, a pytree.

        Args:
            uniform: [numbers], independent and uniform on [0, 1): the only randomness.
        """
        return uniform[0] < self.p, self.choose(uniform[1:])

    def __call__(self, image: Planes, drawn: Any, fill: Sequence = BLACK) -> Planes:
        """Applies what was drawn.

        Args:
            image: planes [H, W] in [0, 1].
            drawn: as `draw` returns it.
            fill: the colour of what is left empty, one value a plane.

        Returns:
            Planes [H, W] in [0, 1].
        """
        happens, chosen = drawn
        return each(lambda new, old: jnp.where(happens, new, old), self.change(image, chosen, fill), image)

    def follow(self, salience: Planes, drawn: Any) -> Planes:
        """Returns the salience of what was drawn for its image: moved with it, and 0 in what is left empty."""
        return self(salience, drawn) if self.moves else salience

    def choose(self, uniform: jax.Array) -> Any:
        """Returns the strength, from the uniform numbers after the first."""

    def change(self, image: Planes, chosen: Any, fill: Sequence) -> Planes:
        """Returns the image with what was chosen done to it."""
        raise TypeError(f"{type(self).__name__} defines no change")


def between(uniform: jax.Array, low, high) -> jax.Array:
    """Returns a number in [0, 1) as one in [low, high)."""
    return low + uniform * (high - low)


def random_key(uniform: jax.Array) -> jax.Array:
    """Returns a key from two uniform numbers [2], for what needs as many numbers as an image has pixels."""
    return jax.random.wrap_key_data((2**23 * uniform).astype(jnp.uint32), impl="threefry2x32")
