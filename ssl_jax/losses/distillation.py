"""Self-distillation losses: a student predicts the distribution over prototypes that its teacher gives an image."""

import jax
import jax.numpy as jnp

from ssl_jax.numeric import l2_normalize, widen


def centered_softmax(scores: jax.Array, center: jax.Array, temperature: jax.Array | float) -> jax.Array:
    """A teacher's distributions: centred, so that no prototype dominates, and sharpened, so that they are not uniform.

    Args:
        scores: [..., K], of the teacher; a constant.
        center: [K], the average of its past scores; 0: no centring.
        temperature: tau > 0; sharpens if it is below the student's.

    Returns:
        [..., K] in float32 or wider; each row sums to 1.

    Source: DINO (Caron et al. 2021, arXiv:2104.14294), Algorithm 1.
    """
    scores = jax.lax.stop_gradient(widen(scores))
    center = center.astype(scores.dtype).reshape((1,) * (scores.ndim - 1) + center.shape)
    return jax.nn.softmax((scores - center) / temperature)


def soft_cross_entropy(targets: jax.Array, scores: jax.Array, temperature: float) -> jax.Array:
    """Cross-entropy of the distributions that scores give, with given distributions.

    Args:
        targets: [..., K], each row sums to 1; its other axes broadcast with those of the scores.
        scores: [..., K], of as many axes.
        temperature: tau > 0 of the scores.

    Returns:
        [...] in float32 or wider; log K where the scores are uniform.

    Source: DINO (Caron et al. 2021, arXiv:2104.14294), equation 2.
    """
    # Rows of K are only ever summed over: their log-probabilities, and rows broadcast to all pairs, are not stored.
    logits = widen(scores) / temperature
    return jax.nn.logsumexp(logits, axis=-1) - jnp.sum(targets.astype(logits.dtype) * logits, axis=-1)


def hidden_weights(mask: jax.Array) -> jax.Array:
    """Returns the weights of patches in the mean over views of the mean over each view's hidden patches.

    Args:
        mask: bool [..., S], whether a patch is hidden. A view without hidden patches counts as a loss of 0.

    Returns:
        [..., S]; 0 for patches that are seen.

    Source: iBOT (Zhou et al. 2021, arXiv:2111.07832), equation 2.
    """
    hidden = mask.astype(float)
    count = jnp.sum(hidden, axis=-1, keepdims=True)
    return hidden / (jnp.maximum(count, 1) * count.size)


def koleo(embeddings: jax.Array) -> jax.Array:
    """The Kozachenko-Leonenko regulariser: spreads embeddings by the distance of each to its nearest neighbour.

    Args:
        embeddings: [B, D], B >= 2, of different images.

    Returns:
        A scalar: minus the mean log of the distances on the unit sphere, in float32 or wider.

    Source: Sablayrolles et al. 2018 (arXiv:1806.03198), equation 2, with the epsilons of DINOv2's code.
    """
    x = l2_normalize(embeddings)
    itself = jnp.eye(len(x), dtype=bool)
    nearest = jnp.argmax(jnp.where(itself, -1.0, x @ x.T), axis=1)
    distance = jnp.linalg.norm(x - x[nearest] + 1e-8, axis=1)
    return -jnp.mean(jnp.log(distance + 1e-8))
