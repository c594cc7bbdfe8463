"""Losses against a bank, which has one row per training image, from the last time the image was seen."""

import jax
import jax.numpy as jnp
from jax.nn import logsumexp

from ssl_jax import parallel
from ssl_jax.losses.pairs import LOG_SUM_EXP, numbers, over_pairs
from ssl_jax.numeric import widen


def nce(scores: jax.Array, normalizer: jax.Array, images: int) -> jax.Array:
    """Noise-contrastive estimation: distinguish the own image of a row from images drawn at random.

    Args:
        scores: [B, 1 + K], similarities divided by the temperature: with the row's own image in the bank, then with K
            rows drawn uniformly from all.
        normalizer: [], Z, by which exponentials are divided to be probabilities.
        images: N, the number of images in the bank.

    Returns:
        A scalar, the mean over the batch.

    Source: InstDisc (Wu et al. 2018, arXiv:1805.01978), equations 4 to 7.
    """
    probability = jnp.exp(widen(scores)) / normalizer
    noise = (scores.shape[1] - 1) / images
    found = jnp.log(probability[:, 0] / (probability[:, 0] + noise + 1e-7))
    refused = jnp.log(noise / (probability[:, 1:] + noise + 1e-7))
    return -(jnp.sum(found) + jnp.sum(refused)) / len(scores)


def nce_normalizer(scores: jax.Array, images: int) -> jax.Array:
    """Returns the estimate of Z for `nce` from scores [B, 1 + K]: the mean exponential times the number of images.

    Source: InstDisc (arXiv:1805.01978), equation 6; the authors keep the value of the first batch.
    """
    return jnp.mean(jnp.exp(widen(scores))) * images


def nce_with_first_normalizer(scores: jax.Array, normalizer: jax.Array, images: int) -> tuple[jax.Array, jax.Array]:
    """Returns `nce` with Z estimated from the first batch, in which `normalizer` is 0.

    Returns:
        The loss, and Z, to be passed with the next batch.
    """
    first = nce_normalizer(jax.lax.stop_gradient(scores), images)
    normalizer = jnp.where(normalizer > 0, normalizer, first)
    return nce(scores, normalizer, images), normalizer


def positive_is_first(scores: jax.Array) -> jax.Array:
    """Softmax cross-entropy of finding column 0 of scores [B, 1 + K], a mean over the batch.

    Source: the authors' code of CMC (Tian et al. 2019, arXiv:1906.05849), in place of noise-contrastive estimation.
    """
    scores = widen(scores)
    return jnp.mean(logsumexp(scores, axis=1) - scores[:, 0])


def instance_softmax(
    embedding: jax.Array, bank: jax.Array, index: jax.Array, temperature: float, images: int
) -> jax.Array:
    """Softmax cross-entropy of finding each image among all images of the bank.

    Args:
        embedding: [B, D], compared by dot product.
        bank: [N, D]; rows beyond `images` are ignored.
        index: int [B], the own row of each embedding.
        temperature: tau > 0.
        images: the number of images, at most N.

    Returns:
        A scalar, the mean over the batch; log of `images` where all rows are equally similar.

    Source: InstDisc (arXiv:1805.01978), equation 2.
    """
    embedding, bank = widen(embedding) / temperature, widen(bank)
    own = jnp.sum(embedding * bank[index], axis=1)
    tags = index[:, None].astype(jnp.int32), numbers(len(index), len(bank))[1]
    others = over_pairs(LOG_SUM_EXP, embedding, bank, tags, lambda own, row: (row != own) & (row < images))
    return jnp.mean(jax.nn.softplus(others - own))


def sampled_scores(embedding: jax.Array, bank: jax.Array, index: jax.Array, temperature: float) -> jax.Array:
    """Returns the similarities [B, K] of embeddings [B, D] and rows `index` [B, K] of a bank, over the temperature."""
    return parallel.sampled_dot_products(widen(embedding), widen(bank), index) / temperature


def spread_out(embedding: jax.Array, temperature: float, weight: float = 1.0) -> jax.Array:
    """Classifies each view as its image, and every other view of the batch as another image.

    Gradients reach a row only as an anchor; as a candidate it is constant.

    Args:
        embedding: [B, 2, D], of unit length.
        temperature: tau > 0.
        weight: the weight of each negative in the softmax and in the second term, > 0; 1 in the paper.

    Returns:
        A scalar, the mean over the 2B anchors.

    Source: InvaSpread (Ye et al. 2019, arXiv:1904.03436), equations 5 to 8.
    """
    count = 2 * len(embedding)
    anchors = widen(embedding).swapaxes(0, 1).reshape(count, -1)
    own = jnp.eye(count, dtype=bool)
    partner = jnp.roll(own, count // 2, axis=1)
    similarity = anchors @ jax.lax.stop_gradient(anchors).T / temperature
    weighted = jnp.where(partner, similarity, similarity + jnp.log(weight))
    log_probability = similarity - logsumexp(weighted, axis=1, where=~own, keepdims=True)
    found = jnp.sum(log_probability, axis=1, where=partner)
    others = ~(own | partner)
    refused = jnp.sum(jnp.log1p(-jnp.exp(jnp.where(others, log_probability, -jnp.inf))), axis=1)
    return -jnp.mean(found + weight * refused)
