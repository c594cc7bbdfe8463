"""Running statistics of a BatchNorm for each image size."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def at_size(run: Callable, module: nn.Module, images: jax.Array, sizes: Sequence[int]) -> Any:
    """Returns `run(module, images)`, where the module's running statistics have a row for each size.

    Training moves the row of the nearest size, and evaluation uses it. Statistics differ between sizes, since a larger
    picture of the same object has smoother features (Touvron et al. 2019, arXiv:1906.06423, section 3.2); adversarial
    examples have rows of their own for a like reason in AdvProp (Xie et al. 2019, arXiv:1911.09665).

    Args:
        run: a function of a Flax module and images.
        module: the module.
        images: [N, H, W, C] of one size.
        sizes: of images, in pixels; none: there is one row for all.
    """
    if not sizes:
        return run(module, images)
    row = min(range(len(sizes)), key=lambda i: abs(sizes[i] - images.shape[1]))
    whole: list = []  # the statistics of all sizes, while the program is traced; nothing yet at initialisation

    def take(variables):
        whole.append(variables)
        return jax.tree.map(lambda x: x[row], variables)

    def put(variables):
        if not jax.tree.leaves(whole[-1]):
            return jax.tree.map(lambda x: jnp.stack([x] * len(sizes)), variables)
        if not jax.tree.leaves(variables):  # in evaluation
            return variables
        return jax.tree.map(lambda old, new: old.at[row].set(new), whole[-1], variables)

    return nn.map_variables(run, "batch_stats", take, put, mutable=True)(module, images)
