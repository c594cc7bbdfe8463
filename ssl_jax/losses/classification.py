"""Cross-entropy with given classes."""

import jax
import jax.numpy as jnp

from ssl_jax.numeric import widen


def cross_entropy(logits: jax.Array, label: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy of predicting a class, with label smoothing.

    Args:
        logits: [..., C].
        label: int [...].
        smoothing: epsilon in [0, 1], the fraction of the target that is spread evenly over all C classes.

    Returns:
        A scalar, the mean over rows; log C where the logits are equal.

    Source: Szegedy et al. 2015 (arXiv:1512.00567), section 7.
    """
    log_probability = jax.nn.log_softmax(widen(logits))
    own = jnp.take_along_axis(log_probability, label[..., None], axis=-1)[..., 0]
    return -jnp.mean((1 - smoothing) * own + smoothing * jnp.mean(log_probability, axis=-1))
