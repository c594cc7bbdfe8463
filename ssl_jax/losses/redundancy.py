"""Losses that reduce the redundancy of the channels of an embedding, without negatives."""

import jax
import jax.numpy as jnp

from ssl_jax.numeric import widen


def barlow_twins(x: jax.Array, y: jax.Array, weight: float) -> jax.Array:
    """Brings the cross-correlation between the channels of two views to the identity matrix.

    Args:
        x: [B, D], embeddings of one view, of any mean and scale: channels are standardised over the batch here.
        y: [B, D], of the other view.
        weight: lambda >= 0 of the off-diagonal part.

    Returns:
        A scalar: D if the views are independent, 0 if they agree and their channels are uncorrelated.

    Source: Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230), equations 1 and 2.
    """
    correlation = standardize(x).T @ standardize(y) / len(x)
    diagonal = jnp.diagonal(correlation)
    off_diagonal = jnp.sum(correlation**2) - jnp.sum(diagonal**2)
    return jnp.sum((diagonal - 1) ** 2) + weight * off_diagonal


def standardize(x: jax.Array) -> jax.Array:
    """Returns x [B, D] with channels of mean 0 and variance 1 over the batch, as BatchNorm without parameters does."""
    x = widen(x)
    return (x - jnp.mean(x, 0, keepdims=True)) * jax.lax.rsqrt(jnp.var(x, 0, keepdims=True) + 1e-5)


def invariance(x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the mean squared difference of two views x, y [B, D].

    Source: VICReg (Bardes et al. 2021, arXiv:2105.04906), equation 5, but averaged over channels, as in their code.
    """
    return jnp.mean((widen(x) - widen(y)) ** 2)


def variance(x: jax.Array) -> jax.Array:
    """Returns the mean over channels of max(0, 1 - standard deviation over the batch) of x [B, D]; 0.99 if collapsed.

    Source: VICReg (arXiv:2105.04906), equations 1 and 2.
    """
    deviation = jnp.sqrt(jnp.var(widen(x), 0, ddof=1) + 1e-4)
    return jnp.mean(jax.nn.relu(1 - deviation))


def covariance(x: jax.Array) -> jax.Array:
    """Returns the sum of the squared covariances between different channels of x [B, D], divided by D.

    Source: VICReg (arXiv:2105.04906), equations 3 and 4.
    """
    x = widen(x)
    centred = x - jnp.mean(x, 0, keepdims=True)
    matrix = centred.T @ centred / (len(x) - 1)
    return (jnp.sum(matrix**2) - jnp.sum(jnp.diagonal(matrix) ** 2)) / x.shape[1]
