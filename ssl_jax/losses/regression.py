"""Regression losses: bring two embeddings of an image together, with no negatives."""

import jax
import jax.numpy as jnp

from ssl_jax.numeric import normalize, widen


def squared_cosine_distance(x: jax.Array, y: jax.Array) -> jax.Array:
    """Squared distance between directions, 2 - 2 cos: 0 where they agree, 2 where orthogonal, 4 where opposite.

    Args:
        x: [..., D], of any length.
        y: [..., D], of any length; the target, whose gradient the caller stops.

    Returns:
        [...].

    Source: BYOL (Grill et al. 2020, arXiv:2006.07733), equation 2. The paper's loss adds the two directions, which
    makes 4 where the views are orthogonal.
    """
    difference = normalize(widen(x)) - normalize(widen(y))
    return jnp.sum(difference * difference, axis=-1)


def negative_cosine_similarity(x: jax.Array, y: jax.Array) -> jax.Array:
    """Minus the cosine of the angle between x and y: -1 where they agree, 1 where opposite.

    Args:
        x: [..., D], of any length.
        y: [..., D], of any length; the target, whose gradient the caller stops.

    Returns:
        [...].

    Source: SimSiam (Chen and He 2020, arXiv:2011.10566), equation 1. The paper's loss is the mean of both directions.
    """
    return -jnp.sum(normalize(widen(x)) * normalize(widen(y)), axis=-1)
