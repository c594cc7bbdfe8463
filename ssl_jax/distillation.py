"""Shared by methods whose targets are distributions over prototypes (SwAV, DINO and its heirs)."""

import jax
import jax.numpy as jnp

from ssl_jax.losses import entropy


def target_entropies(targets: jax.Array) -> dict[str, jax.Array]:
    """Returns metrics by which the watch tells the collapses of targets apart.

    Args:
        targets: [..., K], a distribution for each view.

    Returns:
        `target_entropy`, the mean entropy of a target (1: all are uniform), and `marginal_entropy`, the entropy of the
        mean target (0: all are the same prototype), as shares of log K; `uniform_loss`, log K.
    """
    most = jnp.log(jnp.float32(targets.shape[-1]))
    marginal = jnp.mean(targets, axis=tuple(range(targets.ndim - 1)))
    entropies = {"target_entropy": jnp.mean(entropy(targets)), "marginal_entropy": entropy(marginal)}
    return {name: value / most.astype(value.dtype) for name, value in entropies.items()} | {"uniform_loss": most}
