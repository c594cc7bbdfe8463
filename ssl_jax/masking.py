"""Which patches of an image a network sees, drawn per image; all counts are static."""

import jax
import jax.numpy as jnp


def random_order(key: jax.Array, images: int, patches: int) -> jax.Array:
    """Returns the patches of each image in random order, int [images, patches].

    Source: MAE (He et al. 2021, arXiv:2111.06377), section 3, which keeps the first.
    """
    return jnp.argsort(jax.random.uniform(key, (images, patches)), axis=1)
