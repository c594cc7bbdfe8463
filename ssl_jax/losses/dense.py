"""Losses over the positions of feature maps."""

import jax
import jax.numpy as jnp

from ssl_jax.numeric import l2_normalize, widen


def nearest_position(query: jax.Array, key: jax.Array) -> jax.Array:
    """Returns the most similar position of the key for each position of the query.

    Args:
        query: [B, S, C], features of S positions, of any length.
        key: [B, T, C].

    Returns:
        int [B, S], positions of the key.

    Source: DenseCL (Wang et al. 2020, arXiv:2011.09157), equation 3.
    """
    return jnp.argmax(jnp.einsum("bsc,btc->bst", l2_normalize(query), l2_normalize(key)), axis=-1)


def patch_info_nce(prediction: jax.Array, target: jax.Array, negatives: jax.Array, included: bool = False) -> jax.Array:
    """InfoNCE of predicting one patch among others by dot product.

    Args:
        prediction: [M, D].
        target: [M, D], the patch that each prediction is for.
        negatives: [M, K, D], separate for each prediction, or [K, D], shared by all.
        included: whether the targets are among the negatives, and then not counted twice.

    Returns:
        A scalar, the mean over predictions; log(K + 1), or log(K) if included, when all candidates are equally
        similar.

    Source: CPC (van den Oord et al. 2018, arXiv:1807.03748), equation 4.
    """
    prediction, target, negatives = map(widen, (prediction, target, negatives))
    own = jnp.sum(prediction * target, axis=-1)
    others = jnp.einsum("md,mkd->mk" if negatives.ndim == 3 else "md,kd->mk", prediction, negatives)
    candidates = others if included else jnp.concatenate([own[:, None], others], axis=1)
    return jnp.mean(jax.nn.logsumexp(candidates, axis=1) - own)
