"""Shared by methods whose targets are distributions over prototypes, for whole views and for their hidden patches."""

import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError
from ssl_jax.losses import entropy, hidden_weights
from ssl_jax.networks import Network


def check_scores(network: Network) -> None:
    """Checks that a network scores prototypes.

    Raises:
        UserError: if it does not.
    """
    if network.predictor is None:
        raise UserError(
            "the targets are distributions over prototypes, and there are none; set network.predictor.name=prototypes "
            "and network.predictor.prototypes"
        )


def check_hiding(network: Network, ratio: tuple[float, float]) -> None:
    """Checks that a network can hide a share of the patches between the two, and scores patches.

    Raises:
        UserError: if it cannot.
    """
    if network.passes != "resolution":
        raise UserError("hidden patches of all views share a pass through their heads; set network.passes=resolution")
    if network.dense is None and not network.shared_heads:
        raise UserError(
            "the method has a loss on patches; set network.shared_heads=true, or network.dense and "
            "network.dense_predictor"
        )
    if not getattr(network.encoder, "mask_token", False):
        raise UserError(
            "the method hides patches; set network.encoder.name to a vision transformer and "
            "network.encoder.mask_token=true"
        )
    if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1] <= 1:
        raise UserError(f"method.mask_ratio is {ratio}; set it to two shares, as in (0.1,0.5)")


def choose_hidden(mask: jax.Array, most: int) -> tuple[jax.Array, jax.Array]:
    """Chooses a fixed number of patches, the hidden ones among them, so that a wide head need not see the others.

    Args:
        mask: bool [R, V, S], which of the S patches of V views are hidden, in each R-th of the batch.
        most: n, the largest number of hidden patches in an R-th.

    Returns:
        int [R, n], the chosen patches, for `apply(..., chosen=...)`; and float [R, n], their weights in a sum that is
        the mean over views of the mean over the view's hidden patches: 0 for those that are seen.
    """
    weights = hidden_weights(mask).reshape(len(mask), -1)
    chosen = jnp.argsort(weights == 0, axis=1, stable=True)[:, :most]
    return chosen, jnp.take_along_axis(weights, chosen, axis=1)


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
