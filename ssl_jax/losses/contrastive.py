"""Contrastive losses: find the positive of an anchor among negatives, by cross-entropy over similarities."""

import jax
import jax.numpy as jnp
from jax.nn import logsumexp

from ssl_jax.errors import UserError
from ssl_jax.numeric import as_rows, l2_normalize, widen


def nt_xent(projection: jax.Array, temperature: float) -> jax.Array:
    """Normalised temperature-scaled cross-entropy: find the other views of an image among all views of the batch.

    The directions are added, as in the authors' code: with two views this is twice the paper's mean over the 2B
    anchors, and 2 log(2B - 1) if all embeddings are equal. With more than two views, the others of an image are summed
    in the numerator, as in `contrastive_cross_entropy`.

    Args:
        projection: [B, V, D], V >= 2 views of B images, of any length.
        temperature: tau > 0.

    Returns:
        A scalar: the sum over views of the mean over images.

    Raises:
        UserError: if there is only one view.

    Source: SimCLR (Chen et al. 2020, arXiv:2002.05709), equation 1.
    """
    images, views, _ = projection.shape
    if views < 2:
        raise UserError("a contrastive loss needs two views of an image and got one; set an augment.recipe with two")
    embedding = as_rows(l2_normalize(projection))
    image = (jax.lax.broadcasted_iota(jnp.int32, (images * views,) * 2, axis) // views for axis in (0, 1))
    return views * jnp.mean(contrastive_cross_entropy(embedding, jnp.equal(*image), temperature))


def contrastive_cross_entropy(embedding: jax.Array, alike: jax.Array, temperature: float) -> jax.Array:
    """Returns minus the log of the total probability of the positives in an anchor's softmax over all other rows.

    Positives are summed inside the logarithm, so one of them near the anchor is enough.

    Args:
        embedding: [N, D], compared by dot product.
        alike: bool [N, N], which rows are positives of each other, as in `label[:, None] == label[None, :]`; each row
            needs one besides itself.
        temperature: tau > 0.

    Returns:
        [N], one value per anchor.

    Source: SimCLR (arXiv:2002.05709), equation 1, for anchors with one positive; neighbourhood components analysis
    (Goldberger et al. 2004), equation 5, for more.
    """
    embedding = widen(embedding)
    similarity = embedding @ embedding.T / temperature
    other = ~jnp.eye(len(embedding), dtype=bool)
    candidates = logsumexp(similarity, axis=1, where=other)
    return candidates - logsumexp(similarity, axis=1, where=other & alike)


def supervised_contrastive(embedding: jax.Array, alike: jax.Array, temperature: float) -> jax.Array:
    """Returns minus the mean log probability of the positives in an anchor's softmax over all other rows.

    Positives are averaged outside the logarithm, so every one of them is pulled to the anchor.

    Args:
        embedding: [N, D], compared by dot product: of unit length in the paper.
        alike: bool [N, N], which rows are positives of each other, as in `label[:, None] == label[None, :]`.
        temperature: tau > 0.

    Returns:
        [N], one value per anchor; 0 for an anchor without positives.

    Source: SupCon (Khosla et al. 2020, arXiv:2004.11362), equation 2. The authors' code multiplies it by tau / 0.07.
    """
    embedding = widen(embedding)
    similarity = embedding @ embedding.T / temperature
    other = ~jnp.eye(len(embedding), dtype=bool)
    log_share = similarity - logsumexp(similarity, axis=1, where=other, keepdims=True)
    positives = other & alike
    count = jnp.sum(positives, axis=1, dtype=log_share.dtype)
    return -jnp.sum(log_share, axis=1, where=positives) / jnp.maximum(count, 1)


def info_nce(
    query: jax.Array, positive: jax.Array, negatives: jax.Array, temperature: float, in_batch: bool = False
) -> jax.Array:
    """InfoNCE of MoCo: find a query's key among a queue of other keys.

    Args:
        query: [B, V, D] of V views, compared with keys by dot product: of unit length in the paper; or [B, D].
        positive: [B, D], the key of each image.
        negatives: [K, D], keys shared by all queries.
        temperature: tau > 0.
        in_batch: whether the keys of the batch's other images are negatives too, as in SimCLR v2 with a memory (Chen et
            al. 2020, arXiv:2006.10029, section 2).

    Returns:
        A scalar, the mean over queries.

    Source: MoCo (He et al. 2019, arXiv:1911.05722), equation 1.
    """
    query, positive, negatives = map(widen, (query, positive, negatives))
    own = jnp.einsum("b...d,bd->b...", query, positive) / temperature
    known = logsumexp(query @ positive.T / temperature, axis=-1) if in_batch else own
    others = logsumexp(query @ negatives.T / temperature, axis=-1)
    return jnp.mean(jnp.logaddexp(known, others) - own)


def info_nce_pairs(query: jax.Array, key: jax.Array, temperature: float) -> jax.Array:
    """InfoNCE of MoCo v3: find a query's key among the keys of the batch, times 2 tau.

    The factor makes the size of the gradient independent of the temperature. The paper adds the two directions, with
    each view once the query and once the key; if all similarities are equal, each is 2 tau log B.

    Args:
        query: [B, D], compared by dot product: of unit length in the paper.
        key: [B, D]; row i is the positive of query i, the other rows are its negatives.
        temperature: tau > 0.

    Returns:
        A scalar, the mean over queries of one direction.

    Source: MoCo v3 (Chen et al. 2021, arXiv:2104.02057), equation 1 and Algorithm 1.
    """
    query, key = widen(query), widen(key)
    own = jnp.sum(query * key, axis=1) / temperature
    candidates = logsumexp(query @ key.T / temperature, axis=1)
    return 2 * temperature * jnp.mean(candidates - own)
