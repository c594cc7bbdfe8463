"""Contrastive losses: find the positive of an anchor among negatives, by cross-entropy over similarities."""

import operator

import jax
import jax.numpy as jnp
from jax.nn import logsumexp

from ssl_jax.errors import UserError
from ssl_jax.losses.pairs import LOG_SUM_EXP, SUM, numbers, over_pairs
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
    embedding = l2_normalize(projection)
    anchor = embedding / temperature
    rows, columns = numbers(images * views, images * views)
    tags = rows // views, columns // views
    others = over_pairs(LOG_SUM_EXP, as_rows(anchor), as_rows(embedding), tags, operator.ne)
    similarity = jnp.einsum("bvd,bwd->bvw", anchor, embedding)
    own = logsumexp(similarity, axis=2, where=~jnp.eye(views, dtype=bool)[None])
    return views * jnp.mean(jax.nn.softplus(others.reshape(images, views) - own))


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


def supervised_contrastive(embedding: jax.Array, label: jax.Array, temperature: float) -> jax.Array:
    """Returns minus the mean log probability of the positives in an anchor's softmax over all other rows.

    Positives are averaged outside the logarithm, so every one of them is pulled to the anchor.

    Args:
        embedding: [N, D], compared by dot product: of unit length in the paper.
        label: int [N]; rows with the same label are positives of each other.
        temperature: tau > 0.

    Returns:
        [N], one value per anchor; 0 for an anchor without positives.

    Source: SupCon (Khosla et al. 2020, arXiv:2004.11362), equation 2. The authors' code multiplies it by tau / 0.07.
    """
    embedding = widen(embedding)
    pairs = embedding / temperature, embedding
    rows, columns = numbers(*map(len, pairs))
    candidates = over_pairs(LOG_SUM_EXP, *pairs, (rows, columns), operator.ne)
    tags = (rows, label[:, None]), (columns, label[None])
    positives = over_pairs(SUM, *pairs, tags, other_of_its_class)
    ordered = jnp.sort(label)
    first, after = (jnp.searchsorted(ordered, label, side) for side in ("left", "right"))
    count = (after - first - 1).astype(embedding.dtype)
    return jnp.where(count > 0, candidates - positives / jnp.maximum(count, 1), 0)


def other_of_its_class(row: tuple[jax.Array, jax.Array], column: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Returns whether two rows, each with its number and its label, are different rows with the same label."""
    return (row[0] != column[0]) & (row[1] == column[1])


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
    query = query / temperature
    own, rows = jnp.einsum("b...d,bd->b...", query, positive), as_rows(query)
    others = over_pairs(LOG_SUM_EXP, rows, negatives)
    if in_batch:
        row, image = numbers(len(rows), len(positive))
        tags = row // (len(rows) // len(positive)), image
        others = jnp.logaddexp(others, over_pairs(LOG_SUM_EXP, rows, positive, tags, operator.ne))
    return jnp.mean(jax.nn.softplus(others.reshape(own.shape) - own))


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
    query, key = widen(query) / temperature, widen(key)
    own = jnp.sum(query * key, axis=1)
    others = over_pairs(LOG_SUM_EXP, query, key, numbers(len(query), len(key)), operator.ne)
    return 2 * temperature * jnp.mean(jax.nn.softplus(others - own))
