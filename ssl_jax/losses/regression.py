"""Regression losses: bring two embeddings of an image together, without negatives."""

import jax
import jax.numpy as jnp

from ssl_jax.numeric import l2_normalize, widen


def squared_cosine_distance(x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the squared distance of directions, 2 - 2 cos: 0 if they agree, 2 if orthogonal, 4 if opposite.

    Args:
        x: [..., D], of any length.
        y: [..., D], of any length; the target, whose gradient the caller must stop.

    Returns:
        [...].

    Source: BYOL (Grill et al. 2020, arXiv:2006.07733), equation 2. The paper's loss is the sum of both directions.
    """
    difference = l2_normalize(widen(x)) - l2_normalize(widen(y))
    return jnp.sum(difference * difference, axis=-1)


def negative_cosine_similarity(x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns minus the cosine of the angle between x and y: -1 if they agree, 1 if opposite.

    Args:
        x: [..., D], of any length.
        y: [..., D], of any length; the target, whose gradient the caller must stop.

    Returns:
        [...].

    Source: SimSiam (Chen and He 2020, arXiv:2011.10566), equation 1. The paper's loss is the mean of both directions.
    """
    return -jnp.sum(l2_normalize(widen(x)) * l2_normalize(widen(y)), axis=-1)
