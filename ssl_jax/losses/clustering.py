"""Clustering losses: embeddings are assigned to prototypes, and views predict each other's assignment."""

import functools

import jax
import jax.numpy as jnp

from ssl_jax.numeric import normalize, widen


def sinkhorn(
    scores: jax.Array,
    epsilon: float,
    iterations: int,
    past: jax.Array | None = None,
    weight: jax.Array | float = 1.0,
) -> jax.Array:
    """Soft codes that use all prototypes equally, by the Sinkhorn-Knopp algorithm.

    Args:
      scores: [B, K], cosine of embeddings and prototypes. Adding a constant to all changes nothing; their range divided
        by `epsilon` stays below 80, or the smallest exponential underflows.
      epsilon: entropy of the codes, > 0: small is sharp.
      iterations: how often prototypes, then rows, are brought to their share; 0: rows alone, a plain softmax.
      past: [Q, K], scores of a queue of earlier embeddings, which help to fill the prototypes and get no codes.
      weight: in [0, 1], how much a row of the past counts; at 0 it is as if it were not there, so that a queue can be
        switched on without a change of shapes.

    Returns:
      [B, K]; each row sums to 1.

    Source: SwAV (Caron et al. 2020, arXiv:2006.09882), equation 5 and Algorithm 1.
    """
    # The blocks stay apart: to concatenate rows that devices share out would move all of them.
    blocks = [widen(block) for block in ((scores,) if past is None else (scores, past))]
    weights = [jnp.asarray(value, blocks[0].dtype) for value in (1.0, weight)[: len(blocks)]]
    total = sum(value * len(block) for value, block in zip(weights, blocks, strict=True))
    top = functools.reduce(jnp.maximum, map(jnp.max, blocks))
    kernels = [jnp.exp((block - top) / epsilon) for block in blocks]
    rows = [jnp.ones((len(block), 1), block.dtype) for block in blocks]
    columns = jnp.ones((1, scores.shape[1]), blocks[0].dtype)
    for _ in range(iterations):
        parts = zip(weights, rows, kernels, strict=True)
        mass = [w * jnp.sum(r * k, axis=0, keepdims=True) for w, r, k in parts]
        columns = total / (scores.shape[1] * functools.reduce(jnp.add, mass))
        rows = [1 / jnp.sum(kernel * columns, axis=1, keepdims=True) for kernel in kernels]
    codes = kernels[0] * columns
    return codes / jnp.sum(codes, axis=1, keepdims=True)


def swapped_prediction(codes: jax.Array, scores: jax.Array, temperature: float) -> jax.Array:
    """Cross-entropy of predicting the code of a view from every other view of the same image.

    Args:
      codes: [B, A, K], the targets: distributions over prototypes for the first A views.
      scores: [B, V, K], V >= A and V >= 2, cosine of the embeddings of all views and the prototypes.
      temperature: tau > 0.

    Returns:
      A scalar, the mean over images and the A (V - 1) pairs; log K where the predictions are uniform.

    Source: SwAV (Caron et al. 2020, arXiv:2006.09882), equations 2 and 6.
    """
    log_probability = jax.nn.log_softmax(widen(scores) / temperature)
    loss = -jnp.einsum("bak,bvk->bav", codes.astype(log_probability.dtype), log_probability)
    assigned, views = loss.shape[1:]
    different = jnp.arange(assigned)[:, None] != jnp.arange(views)[None, :]
    return jnp.mean(jnp.sum(loss, axis=(1, 2), where=different[None])) / (assigned * (views - 1))


def entropy(probabilities: jax.Array) -> jax.Array:
    """Entropy in nats of distributions [..., K] -> [...]: 0 for one-hot, log K for uniform ones."""
    return jnp.sum(jax.scipy.special.entr(widen(probabilities)), axis=-1)


def spherical_kmeans(points: jax.Array, centroids: jax.Array, iterations: int) -> tuple[jax.Array, jax.Array]:
    """K-means on the unit sphere, from given centroids.

    Args:
      points: [N, D], of unit length.
      centroids: [K, D], of unit length.
      iterations: how often points are assigned and centroids moved, >= 0.

    Returns:
      The new centroids [K, D] of unit length, and the centroid int32 [N] nearest to each point. A cluster that is empty
      keeps its centroid.

    Source: DeepCluster-v2, appendix of SwAV (Caron et al. 2020, arXiv:2006.09882).
    """

    def assign(centroids):
        return jnp.argmax(points @ centroids.T, axis=1).astype(jnp.int32)

    def move(_, centroids):
        total = jax.ops.segment_sum(points, assign(centroids), len(centroids))
        empty = jnp.all(total == 0, axis=1, keepdims=True)
        return jnp.where(empty, centroids, normalize(total))

    centroids = jax.lax.fori_loop(0, iterations, move, centroids)
    return centroids, assign(centroids)


def prototype_cross_entropy(scores: jax.Array, assignment: jax.Array, temperature: float) -> jax.Array:
    """Cross-entropy of predicting the prototype that an embedding was assigned to.

    Args:
      scores: [..., K], cosine of embeddings and prototypes.
      assignment: int [...], -1 where unknown.
      temperature: tau > 0.

    Returns:
      A scalar, the mean over the known assignments; 0 if none is known.

    Source: DeepCluster-v2, appendix of SwAV (Caron et al. 2020, arXiv:2006.09882).
    """
    log_probability = jax.nn.log_softmax(widen(scores) / temperature)
    picked = jnp.take_along_axis(log_probability, jnp.maximum(assignment, 0)[..., None], axis=-1)[..., 0]
    known = (assignment >= 0).astype(picked.dtype)
    return -jnp.sum(known * picked) / jnp.maximum(jnp.sum(known), 1)
