"""Measures of how features are spread, which detect a collapse without labels."""

import jax
import jax.numpy as jnp

from ssl_jax.numeric import as_rows, l2_normalize, widen

EPSILON = 1e-7  # of RankMe's definition


def rankme(features: jax.Array) -> jax.Array:
    """Returns the effective rank of features [N, D]: the exponential of the entropy of their singular values.

    It is 1 if they vary in one direction, min(N, D) if in all directions alike. Features are neither centred nor
    normalised.

    Source: Garrido et al. 2023 (RankMe, arXiv:2210.02885), equation 1.
    """
    values = jnp.linalg.svd(widen(features), compute_uv=False)
    p = values / jnp.maximum(jnp.sum(values), jnp.finfo(values.dtype).tiny) + EPSILON
    return jnp.exp(-jnp.sum(p * jnp.log(p)))


def projection_std(z: jax.Array) -> jax.Array:
    """Returns the spread of projections z [B, ..., D]: near 1 when spread evenly over the sphere, 0 when collapsed.

    It is the standard deviation over all rows of each channel of z / |z|, averaged over channels, times sqrt(D).

    Source: Chen and He 2021 (SimSiam, arXiv:2011.10566), section 4.1.
    """
    z = l2_normalize(as_rows(z))
    return jnp.mean(jnp.std(z, 0)) * z.shape[-1] ** 0.5


def projection_crowding(z: jax.Array) -> jax.Array:
    """Returns the fraction of projections z [B, ..., D] whose cosine with their mean exceeds 0.98: 1 when collapsed.

    Unlike the spread, it detects a collapse behind a BatchNorm, which keeps some rows of a batch far from the others.
    The threshold is high because a healthy head without a norm can hold most cosines above 0.9 for a while.
    """
    z = l2_normalize(as_rows(z))
    return jnp.mean(z @ l2_normalize(jnp.mean(z, 0)) > 0.98)


def alignment(x: jax.Array, y: jax.Array, power: float = 2) -> jax.Array:
    """Returns the mean of |x - y|^power over positive pairs of unit features x, y [N, D]; 0 is best.

    Source: Wang and Isola 2020 (arXiv:2005.10242), section 4.1.
    """
    return jnp.mean(jnp.sum((x - y) ** 2, -1) ** (power / 2))


def uniformity(x: jax.Array, t: float = 2) -> jax.Array:
    """Returns the logarithm of the mean Gaussian potential exp(-t |xi - xj|^2) over all pairs of unit features [N, D].

    Smaller is more uniform.

    Source: Wang and Isola 2020 (arXiv:2005.10242), section 4.1.
    """
    square = jnp.sum(x**2, axis=1)
    product = jnp.matmul(x, x.T, precision=jax.lax.Precision.HIGHEST)
    distance = square[:, None] + square[None] - 2 * product  # an array [N, N], not one of all pairs [N, N, D]
    pairs = jnp.triu(jnp.ones(distance.shape, bool), 1)
    return jnp.log(jnp.mean(jnp.exp(-t * distance), where=pairs))
