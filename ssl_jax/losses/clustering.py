"""Clustering losses: embeddings are assigned to prototypes, and views predict each other's assignment."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ssl_jax.losses.distillation import soft_cross_entropy
from ssl_jax.losses.views import cross_views
from ssl_jax.numeric import l2_normalize, widen

TILE = 1024  # points that are compared with all centroids at a time


def sinkhorn(
    scores: jax.Array,
    epsilon: float,
    iterations: int,
    past: jax.Array | None = None,
    weight: jax.Array | float = 1.0,
    counted: jax.Array | None = None,
) -> jax.Array:
    """Soft codes that use all prototypes equally, by the Sinkhorn-Knopp algorithm.

    Args:
        scores: [B, K], cosines of embeddings and prototypes. A constant added to all has no effect; their range divided
            by `epsilon` must stay below 80, or the smallest exponential underflows.
        epsilon: entropy of the codes, > 0: small is sharp.
        iterations: how often prototypes, then rows, are normalised; with 0, only rows are, a plain softmax.
        past: [Q, K], scores of a queue of earlier embeddings, which help to fill the prototypes and get no codes.
        weight: in [0, 1], the weight of the rows of `past`; 0 ignores them, so that a queue can be switched on without
            a change of shapes.
        counted: bool [B], at least one true: the rows that fill the prototypes. Others get codes all the same. None:
            all.

    Returns:
        [B, K]; each row sums to 1.

    Source: SwAV (Caron et al. 2020, arXiv:2006.09882), equation 5 and Algorithm 1.
    """
    # The blocks are not concatenated, which would move rows that are split over devices.
    blocks = [widen(block) for block in ((scores,) if past is None else (scores, past))]
    own = 1.0 if counted is None else counted[:, None]
    weights = [
        jnp.broadcast_to(jnp.asarray(value, block.dtype), (len(block), 1))
        for value, block in zip((own, weight), blocks, strict=False)
    ]
    total = functools.reduce(jnp.add, map(jnp.sum, weights))
    top = functools.reduce(jnp.maximum, map(jnp.max, blocks))
    kernels = [jnp.exp((block - top) / epsilon) for block in blocks]
    rows = [jnp.ones((len(block), 1), block.dtype) for block in blocks]
    columns = jnp.ones((1, scores.shape[1]), blocks[0].dtype)
    for _ in range(iterations):
        parts = zip(weights, rows, kernels, strict=True)
        mass = [jnp.sum(w * r * k, axis=0, keepdims=True) for w, r, k in parts]
        columns = total / (scores.shape[1] * functools.reduce(jnp.add, mass))
        rows = [1 / jnp.sum(kernel * columns, axis=1, keepdims=True) for kernel in kernels]
    codes = kernels[0] * columns
    return codes / jnp.sum(codes, axis=1, keepdims=True)


def swapped_prediction(codes: jax.Array, scores: jax.Array, temperature: float) -> jax.Array:
    """Cross-entropy of predicting the code of a view from every other view of the same image.

    Args:
        codes: [B, A, K], the targets: distributions over prototypes for the first A views.
        scores: [B, V, K], V >= A and V >= 2, cosines of the embeddings of all views and the prototypes.
        temperature: tau > 0.

    Returns:
        A scalar, the mean over images and the A (V - 1) pairs; log K where the predictions are uniform.

    Source: SwAV (Caron et al. 2020, arXiv:2006.09882), equations 2 and 6.
    """
    return cross_views(soft_cross_entropy(codes[:, :, None], scores[:, None], temperature))


def entropy(probabilities: jax.Array) -> jax.Array:
    """Returns the entropy [...] in nats of distributions [..., K]: 0 for one-hot, log K for uniform ones."""
    return jnp.sum(jax.scipy.special.entr(widen(probabilities)), axis=-1)


def spherical_kmeans(points: jax.Array, centroids: jax.Array, iterations: int) -> tuple[jax.Array, jax.Array]:
    """K-means on the unit sphere, from given centroids.

    Args:
        points: [N, D], of unit length.
        centroids: [K, D], of unit length.
        iterations: the number of times that points are assigned and centroids moved, >= 0.

    Returns:
        The new centroids [K, D] of unit length, and the centroid int32 [N] nearest to each point. An empty cluster
        keeps its centroid.

    Source: DeepCluster-v2, appendix of SwAV (Caron et al. 2020, arXiv:2006.09882).
    """

    def assign(centroids):
        return most_similar(points, centroids)

    def move(_, centroids, assignment):
        total = jax.ops.segment_sum(points, assignment, len(centroids))
        empty = jnp.all(total == 0, axis=1, keepdims=True)
        return jnp.where(empty, centroids, l2_normalize(total))

    return alternate(assign, move, centroids, iterations)


def kmeans(
    key: jax.Array, points: jax.Array, known: jax.Array, centroids: jax.Array, iterations: int
) -> tuple[jax.Array, jax.Array]:
    """Euclidean k-means from given centroids, in which no cluster stays empty.

    The next centroid of an empty cluster is a copy of another one, moved by a thousandth, so that the two split the
    points of the other. The other is drawn with probability proportional to its number of points minus one.

    Args:
        key: a PRNG key.
        points: [N, D].
        known: bool [N], the points that determine the centroids; the others are assigned too.
        centroids: [K, D].
        iterations: the number of times that points are assigned and centroids moved, >= 0.

    Returns:
        The new centroids [K, D], and the centroid int32 [N] nearest to each point.

    Source: DeepCluster (Caron et al. 2018, arXiv:1807.05520), section 3.3; the draw and the distance are those of
    faiss, which its authors use.
    """
    weight = known.astype(points.dtype)

    def assign(centroids):
        return most_similar(points, centroids, -jnp.sum(centroids**2, axis=1) / 2)

    def move(i, centroids, assignment):
        which, where = jax.random.split(jax.random.fold_in(key, i))
        size = jax.ops.segment_sum(weight, assignment, len(centroids))
        total = jax.ops.segment_sum(weight[:, None] * points, assignment, len(centroids))
        mean = total / jnp.maximum(size, 1)[:, None]
        split = jax.random.categorical(which, jnp.log(jnp.maximum(size - 1, 0)), shape=size.shape)
        beside = mean[split] * (1 + jax.random.rademacher(where, mean.shape, mean.dtype) / 1024)
        return jnp.where(size[:, None] > 0, mean, beside)

    return alternate(assign, move, centroids, iterations)


def alternate(assign: Callable, move: Callable, centroids: jax.Array, iterations: int) -> tuple[jax.Array, jax.Array]:
    """Returns the centroids after the iterations, and the assignment of the points to them."""
    centroids = jax.lax.fori_loop(0, iterations, lambda i, centroids: move(i, centroids, assign(centroids)), centroids)
    return centroids, assign(centroids)


def most_similar(points: jax.Array, centroids: jax.Array, bias: jax.Array | float = 0.0) -> jax.Array:
    """Returns the centroid with the largest dot product, plus its bias, for each point: int32 [N].

    `TILE` points are compared at a time, to avoid an [N, K] matrix. A tile takes points at regular intervals, a few
    from each device, so that no point moves between devices.

    Args:
        points: [N, D].
        centroids: [K, D].
        bias: scalar or [K].
    """
    count, dimension = points.shape
    tile = min(TILE, count)
    tiles = jnp.pad(points, ((0, -count % tile), (0, 0))).reshape(tile, -1, dimension).swapaxes(0, 1)
    bias = jnp.broadcast_to(bias, len(centroids))

    def assign(rows):
        return jnp.argmax(rows @ centroids.T + bias[None], axis=1).astype(jnp.int32)

    return jax.lax.map(assign, tiles).T.reshape(-1)[:count]


def random_rows(key: jax.Array, known: jax.Array, count: int) -> jax.Array:
    """Returns int32 [count], different rows in random order, with those that are `known` [N] before the others."""
    priority = jnp.where(known, jax.random.uniform(key, known.shape), -1.0)
    return jax.lax.top_k(priority, count)[1]


def cluster_weights(sizes: jax.Array, most: float = 10.0) -> jax.Array:
    """Returns weights [K] of images by their cluster, so that clusters count equally; the mean over images is 1.

    Before they are scaled to that mean, weights are clipped to `most` times the weight in clusters of equal size, so
    that an image of a tiny cluster does not outweigh the rest of its batch.

    Args:
        sizes: int [K], the number of images of each cluster.
        most: the bound, >= 1.

    Source: instead of DeepCluster's sampling over clusters (Caron et al. 2018, arXiv:1807.05520, section 3.3).
    """
    size = sizes.astype(float)
    images, clusters = jnp.sum(size), jnp.sum(size > 0, dtype=size.dtype)
    weight = jnp.minimum(images / jnp.maximum(clusters * size, 1), most)
    return weight * images / jnp.maximum(jnp.sum(size * weight), 1)


def whiten(points: jax.Array, known: jax.Array, components: int) -> jax.Array:
    """Returns the whitened principal components of points, scaled to unit length.

    Args:
        points: [N, D].
        known: bool [N], the points that determine mean and covariance, at least one.
        components: the number of leading components to keep, from 1 to D.

    Returns:
        [N, components], rows of unit length.

    Source: DeepCluster (Caron et al. 2018, arXiv:1807.05520), section 3.3.
    """
    weight = known.astype(points.dtype)[:, None]
    count = jnp.sum(weight)
    centred = points - jnp.sum(weight * points, axis=0, keepdims=True) / count
    variance, directions = jnp.linalg.eigh((weight * centred).T @ centred / count)  # ascending
    strongest = jnp.maximum(
        variance[-components:], 1e-6 * variance[-1]
    )  # a direction without variance is not amplified
    return l2_normalize(centred @ (directions[:, -components:] / jnp.sqrt(strongest)[None]))


def prototype_cross_entropy(
    scores: jax.Array, assignment: jax.Array, temperature: float, weight: jax.Array | float = 1.0
) -> jax.Array:
    """Cross-entropy of predicting the prototype that an embedding was assigned to.

    Args:
        scores: [..., K], cosines of embeddings and prototypes.
        assignment: int [...], -1 where unknown.
        temperature: tau > 0.
        weight: scalar or [...], the weight of each embedding, >= 0.

    Returns:
        A scalar, the mean over the known assignments of weight times cross-entropy; 0 if none is known.

    Source: DeepCluster-v2, appendix of SwAV (Caron et al. 2020, arXiv:2006.09882).
    """
    log_probability = jax.nn.log_softmax(widen(scores) / temperature)
    loss = -jnp.take_along_axis(log_probability, jnp.maximum(assignment, 0)[..., None], axis=-1)[..., 0]
    known = assignment >= 0
    return jnp.sum(jnp.where(known, weight * loss, 0.0)) / jnp.maximum(jnp.sum(known, dtype=loss.dtype), 1)
