"""Operations that remove information: parts of the image, its precision, its colours."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp

from ssl_jax.augment.operation import Operation, random_key
from ssl_jax.augment.planes import each
from ssl_jax.fields import not_negative, share


@dataclasses.dataclass(frozen=True)
class Cutout(Operation):
    """A square hole, whose centre lies anywhere in the image (DeVries and Taylor 2017, arXiv:1708.04552)."""

    size: Annotated[float, share] = 0.5  # side of the hole as a share of the image's; theirs on CIFAR-10
    numbers = 3
    moves = True  # what is in the hole cannot be seen, so it is not salient

    def choose(self, uniform):
        return uniform

    def change(self, image, chosen, fill):
        def covered(length, place):
            reach = round(self.size * length) // 2
            pixel, center = jnp.arange(length), jnp.floor(length * place).astype(jnp.int32)
            return (pixel >= center - reach) & (pixel < center + reach)

        rows, columns = (covered(*one) for one in zip(image[0].shape, chosen, strict=True))
        hole = rows[:, None] & columns[None, :]
        return each(lambda x, outside: jnp.where(hole, outside, x), image, tuple(fill))


@dataclasses.dataclass(frozen=True)
class GaussianNoise(Operation):
    """Independent normal noise in every value, clipped to [0, 1] (SimCLR, arXiv:2002.05709; it gives no strength)."""

    std: Annotated[float, not_negative] = 0.1  # standard deviation; values are in [0, 1]
    numbers = 3

    def choose(self, uniform):
        return uniform

    def change(self, image, chosen, fill):
        noise = self.std * jax.random.normal(random_key(chosen), (len(image), *image[0].shape), image[0].dtype)
        return each(lambda x, added: jnp.clip(x + added, 0.0, 1.0), image, tuple(noise))


@dataclasses.dataclass(frozen=True)
class ColorDrop(Operation):
    """Drops two of the three colour channels (CPC v2, arXiv:1905.09272, appendix)."""

    numbers = 2

    def choose(self, uniform):
        return jnp.floor(3 * uniform[0]).astype(jnp.int32)

    def change(self, image, chosen, fill):
        return each(lambda x, plane, dropped: jnp.where(chosen == plane, x, dropped), image, (0, 1, 2), tuple(fill))
