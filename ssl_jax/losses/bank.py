"""Losses against a memory of all training images: one row each, kept from the last time the image was seen."""

import jax
import jax.numpy as jnp
from jax.nn import logsumexp

from ssl_jax import parallel
from ssl_jax.numeric import normalize, widen


def nce(scores: jax.Array, normalizer: jax.Array, images: int) -> jax.Array:
    """Noise-contrastive estimation: tell a row's own image from images drawn at random.

    Args:
      scores: [B, 1 + K], similarities divided by the temperature: with the own row of the memory, then with K rows
        drawn evenly from all.
      normalizer: [], Z, what exponentials are divided by to be probabilities.
      images: N rows in the memory.

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
    """Z of NCE as one batch estimates it, of scores [B, 1 + K]: the mean exponential times the number of images.

    Source: InstDisc (arXiv:1805.01978), equation 6; the authors keep the value of the first batch.
    """
    return jnp.mean(jnp.exp(widen(scores))) * images


def with_negatives(key: jax.Array, index: jax.Array, negatives: int, images: int) -> jax.Array:
    """Returns int [B, 1 + K]: each row's own image `index` [B], then K drawn evenly from all, it included."""
    drawn = jax.random.randint(key, (len(index), negatives), 0, images)
    return jnp.concatenate([index[:, None], drawn], axis=1)


def with_negatives_of_other_classes(key: jax.Array, index: jax.Array, labels: jax.Array, negatives: int) -> jax.Array:
    """Returns int [B, 1 + K]: each row's own image, then K drawn evenly from all of other classes.

    Args:
        key: of the draw.
        index: int [B], the rows' own images.
        labels: int [N], the class of every image, at least two classes.
        negatives: K.

    Source: CRD (Tian et al. 2019, arXiv:1910.10699), section 3.1.
    """
    order = jnp.argsort(labels)  # by class: the others lie in two runs, before and after the own
    sorted_labels, own = labels[order], labels[index]
    first, after = (jnp.searchsorted(sorted_labels, own, side)[:, None] for side in ("left", "right"))
    place = jax.random.randint(key, (len(index), negatives), 0, len(labels) - (after - first))
    place = jnp.where(place < first, place, place + after - first)
    return jnp.concatenate([index[:, None], order[place]], axis=1)


def nce_with_first_normalizer(scores: jax.Array, normalizer: jax.Array, images: int) -> tuple[jax.Array, jax.Array]:
    """As `nce`, with the Z that the first batch gave: where `normalizer` is 0, this is that batch.

    Returns:
      The loss and Z, to be handed in with the next batch.
    """
    first = nce_normalizer(jax.lax.stop_gradient(scores), images)
    normalizer = jnp.where(normalizer > 0, normalizer, first)
    return nce(scores, normalizer, images), normalizer


def first_of(scores: jax.Array) -> jax.Array:
    """Softmax cross-entropy of finding column 0 of scores [B, 1 + K], a mean over the batch."""
    scores = widen(scores)
    return jnp.mean(logsumexp(scores, axis=1) - scores[:, 0])


def instance_softmax(
    embedding: jax.Array, bank: jax.Array, index: jax.Array, temperature: float, images: int
) -> jax.Array:
    """Softmax cross-entropy of finding each image among all of the memory.

    Args:
      embedding: [B, D], compared by dot product.
      bank: [N, D], the memory; rows beyond `images` do not count.
      index: int [B], which rows are the embeddings' own.
      temperature: tau > 0.
      images: at most N.

    Returns:
      A scalar, the mean over the batch; log of `images` where all rows are equally near.

    Source: InstDisc (arXiv:1805.01978), equation 2.
    """
    embedding, bank = widen(embedding), widen(bank)
    scores = embedding @ bank.T / temperature
    used = jnp.arange(len(bank))[None, :] < images
    own = jnp.sum(embedding * bank[index], axis=1) / temperature
    return jnp.mean(logsumexp(scores, axis=1, where=used) - own)


def find_own(
    embedding: jax.Array,
    bank: jax.Array,
    candidates: jax.Array,
    normalizer: jax.Array,
    images: int,
    temperature: float,
    softmax: bool,
) -> tuple[jax.Array, jax.Array]:
    """Each image finds its own row of the memory, in one of three ways that InstDisc and CMC share.

    Args:
      embedding: [B, D], of unit length.
      bank: [N, D], the memory; rows beyond `images` do not count.
      candidates: int [B, 1 + K], each image and then those drawn for it, as `with_negatives` gives; with K = 0 the
        softmax is over all images.
      normalizer: [], Z of the first batch, 0 before; for noise-contrastive estimation alone.
      images: at most N.
      temperature: tau > 0.
      softmax: whether own and drawn rows are in a softmax, in place of noise-contrastive estimation.

    Returns:
      The loss, a mean over the batch, and Z, to be handed in with the next batch.

    Source: InstDisc (arXiv:1805.01978), equations 2 and 4 to 7; the softmax over drawn rows: the authors' code of CMC
    (arXiv:1906.05849).
    """
    if candidates.shape[1] == 1:
        return instance_softmax(embedding, bank, candidates[:, 0], temperature, images), normalizer
    scores = sampled_scores(embedding, bank, candidates, temperature)
    return (first_of(scores), normalizer) if softmax else nce_with_first_normalizer(scores, normalizer, images)


def random_bank(key: jax.Array, rows: int, dimension: int) -> jax.Array:
    """Returns a memory [N, D] of images not seen yet: random rows, of length 1 on average, as InstDisc's authors."""
    side = (3 / dimension) ** 0.5
    return jax.random.uniform(key, (rows, dimension), float, -side, side)


def sampled_scores(embedding: jax.Array, bank: jax.Array, index: jax.Array, temperature: float) -> jax.Array:
    """Similarities [B, K] of embeddings [B, D] and rows `index` [B, K] of a memory [N, D], over the temperature."""
    return parallel.products(widen(embedding), widen(bank), index) / temperature


def remember(bank: jax.Array, index: jax.Array, rows: jax.Array, momentum: float) -> jax.Array:
    """Returns the memory [N, ..., D] with the rows of a batch moved towards new ones and brought to unit length.

    Args:
      bank: the memory.
      index: int [B], which rows; the batch holds no image twice.
      rows: [B, ..., D], new embeddings of unit length.
      momentum: share of the old row, in [0, 1).

    Source: the authors' code of InstDisc (arXiv:1805.01978), where a row moves half-way.
    """
    moved = normalize(momentum * bank[index] + (1 - momentum) * jax.lax.stop_gradient(rows))
    return bank.at[index].set(moved.astype(bank.dtype))


def spread_out(embedding: jax.Array, temperature: float, weight: float = 1.0) -> jax.Array:
    """Each view is recognised as its image, and no other image as it.

    Gradients reach a row as an anchor alone; in the other role it is constant.

    Args:
      embedding: [B, 2, D], of unit length.
      temperature: tau > 0.
      weight: how much each negative counts, in the softmax and in the second part, > 0; 1 in the paper.

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
