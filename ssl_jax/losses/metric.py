"""Supervised metric learning over the pairs and triplets of a batch."""

import jax
import jax.numpy as jnp
from jax.nn import logsumexp

from ssl_jax.errors import UserError, suggest
from ssl_jax.numeric import widen

MINING = ("all", "hard", "semihard", "batch_hard")


def triplet(
    embedding: jax.Array, label: jax.Array, margin: float, mining: str = "all", squared: bool = False
) -> jax.Array:
    """Triplet loss: an anchor is nearer to its positive than to its negative, by a margin.

    Args:
        embedding: [N, D], of unit length in most papers.
        label: int [N].
        margin: >= 0, by which the distance to the negative should exceed that to the positive.
        mining: "all" triplets; those that are "hard" (the negative is no farther than the positive) or "semihard"
            (farther, by less than the margin); or "batch_hard", the farthest positive and the nearest negative of each
            anchor. All but the last need memory for N^3 numbers.
        squared: whether distances are squared.

    Returns:
        A scalar, the mean over the triplets that violate the margin; 0 if none does.

    Raises:
        UserError: if `mining` is unknown.

    Source: FaceNet (Schroff et al. 2015, arXiv:1503.03832), section 3; batch hard: Hermans et al. 2017
    (arXiv:1703.07737), equation 5.
    """
    if mining not in MINING:
        raise UserError(f"mining is {mining!r}; {suggest(mining, MINING)}")
    distance = distances(embedding, squared)
    positive, negative = pairs(label)
    if mining == "batch_hard":
        farthest = jnp.max(distance, axis=1, where=positive, initial=-jnp.inf)
        closest = jnp.min(distance, axis=1, where=negative, initial=jnp.inf)
        valid = jnp.any(positive, 1) & jnp.any(negative, 1)
        gap = jnp.where(valid, closest - farthest, jnp.inf)
        return mean_positive(jax.nn.relu(margin - gap))
    gap = distance[:, None, :] - distance[:, :, None]  # [anchor, positive, negative]
    valid = positive[:, :, None] & negative[:, None, :]
    if mining != "all":
        valid &= (gap <= 0) if mining == "hard" else (gap > 0) & (gap <= margin)
    return mean_positive(jnp.where(valid, jax.nn.relu(margin - gap), 0))


def margin_contrastive(embedding: jax.Array, label: jax.Array, margin: float) -> jax.Array:
    """Contrastive loss of pairs: positives have distance 0, negatives at least the margin.

    Args:
        embedding: [N, D].
        label: int [N].
        margin: > 0.

    Returns:
        A scalar, the mean over positive pairs that are apart plus the mean over negative pairs inside the margin.

    Source: Hadsell et al. 2006 (doi:10.1109/CVPR.2006.100), equation 4, with distances instead of their squares.
    """
    distance = distances(embedding)
    positive, negative = pairs(label)
    inside = jax.nn.relu(margin - distance)
    return mean_positive(jnp.where(positive, distance, 0)) + mean_positive(jnp.where(negative, inside, 0))


def circle(embedding: jax.Array, label: jax.Array, margin: float = 0.25, scale: float = 256.0) -> jax.Array:
    """Circle loss: the weight of each similarity grows with its distance from the optimum.

    Args:
        embedding: [N, D], of unit length.
        label: int [N].
        margin: m; positive similarities should exceed 1 - m, negative ones stay below m.
        scale: gamma > 0.

    Returns:
        A scalar, the mean over anchors that have a positive and a negative.

    Source: Sun et al. 2020 (arXiv:2002.10857), equations 6 to 8.
    """
    similarity = widen(embedding) @ widen(embedding).T
    positive, negative = pairs(label)
    pull = jax.lax.stop_gradient(jax.nn.relu(1 + margin - similarity))
    push = jax.lax.stop_gradient(jax.nn.relu(similarity + margin))
    near = logsumexp(-scale * pull * (similarity - 1 + margin), axis=1, where=positive)
    far = logsumexp(scale * push * (similarity - margin), axis=1, where=negative)
    valid = jnp.any(positive, 1) & jnp.any(negative, 1)
    return mean_positive(jnp.where(valid, jax.nn.softplus(jnp.where(valid, near + far, 0)), 0))


def multi_similarity(
    embedding: jax.Array,
    label: jax.Array,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    epsilon: float | None = 0.1,
) -> jax.Array:
    """Multi-similarity loss: weights each pair by its similarity, relative to the other pairs of its anchor.

    Args:
        embedding: [N, D], of unit length.
        label: int [N].
        alpha: sharpness for positives, > 0.
        beta: sharpness for negatives, > 0.
        base: lambda, the similarity that separates near from far.
        epsilon: the margin of the mining: a negative counts if it is more similar than the least similar positive of
            the anchor minus epsilon, a positive if it is less similar than the most similar negative plus epsilon;
            None: all pairs count.

    Returns:
        A scalar, the mean over anchors.

    Source: Wang et al. 2019 (arXiv:1904.06627), equations 11, 12 and 15.
    """
    similarity = widen(embedding) @ widen(embedding).T
    positive, negative = pairs(label)
    if epsilon is not None:
        least = jnp.min(similarity, axis=1, where=positive, initial=jnp.inf, keepdims=True)
        most = jnp.max(similarity, axis=1, where=negative, initial=-jnp.inf, keepdims=True)
        positive, negative = positive & (similarity < most + epsilon), negative & (similarity > least - epsilon)
    near = softplus_sum(-alpha * (similarity - base), positive, axis=1) / alpha
    far = softplus_sum(beta * (similarity - base), negative, axis=1) / beta
    return jnp.mean(near + far)


def supervised_info_nce(embedding: jax.Array, label: jax.Array, temperature: float) -> jax.Array:
    """InfoNCE of every pair with the same label, against the rows of other labels only.

    Args:
        embedding: [N, D], of unit length.
        label: int [N].
        temperature: tau > 0.

    Returns:
        A scalar, the mean over positive pairs.

    Source: the N-pair form of Sohn 2016 (doi:10.5555/3157096.3157304), equation 6, with a temperature.
    """
    similarity = widen(embedding) @ widen(embedding).T / temperature
    positive, negative = pairs(label)
    others = logsumexp(similarity, axis=1, where=negative, keepdims=True)
    each = jnp.logaddexp(similarity, others) - similarity
    return jnp.sum(each, where=positive) / jnp.maximum(jnp.sum(positive, dtype=each.dtype), 1)


def pairs(label: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns which rows are positives and which are negatives of each other, bool [N, N], without the row itself."""
    same = label[:, None] == label[None, :]
    return same & ~jnp.eye(len(label), dtype=bool), ~same


def distances(embedding: jax.Array, squared: bool = False) -> jax.Array:
    """Returns the Euclidean distances [N, N] between rows; the gradient of a distance of 0 is 0."""
    x = widen(embedding)
    difference = x[:, None, :] - x[None, :, :]
    square = jnp.sum(difference * difference, -1)
    return square if squared else jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def mean_positive(terms: jax.Array) -> jax.Array:
    """Returns the mean of the terms above 0, or 0 if there are none."""
    return jnp.sum(terms) / jnp.maximum(jnp.sum(terms > 0, dtype=terms.dtype), 1)


def softplus_sum(x: jax.Array, where: jax.Array, axis: int) -> jax.Array:
    """Returns log(1 + sum of exp) over the chosen elements of an axis; 0 if none is chosen."""
    return jax.nn.softplus(logsumexp(x, axis=axis, where=where))
