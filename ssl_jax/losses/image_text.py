"""Losses that match images and texts: row i of one belongs to row i of the other."""

import operator

import jax
import jax.numpy as jnp

from ssl_jax.losses.pairs import LOG_SUM_EXP, SUM_SOFTPLUS, numbers, over_pairs
from ssl_jax.numeric import widen


def image_text_softmax(image: jax.Array, text: jax.Array, scale: jax.Array | float) -> jax.Array:
    """Finds the text of each image among all texts of the batch, and the image of each text among all images.

    Args:
        image: [B, E], compared by dot product: of unit length in the paper.
        text: [B, E].
        scale: what similarities are multiplied by, > 0.

    Returns:
        A scalar, the mean of both directions; log B if all similarities are equal.

    Source: CLIP (Radford et al. 2021, arXiv:2103.00020), Figure 3.
    """
    image, text = scale * widen(image), widen(text)
    own = jnp.sum(image * text, axis=1)

    def find(query, key):
        others = over_pairs(LOG_SUM_EXP, query, key, numbers(len(image), len(text)), operator.ne)
        return jnp.mean(jax.nn.softplus(others - own))

    return (find(image, text) + find(text, image)) / 2


def image_text_sigmoid(
    image: jax.Array, text: jax.Array, scale: jax.Array | float, bias: jax.Array | float
) -> jax.Array:
    """Tells for each image and each text of the batch, apart from all others, whether they belong together.

    Args:
        image: [B, E], compared by dot product: of unit length in the paper.
        text: [B, E].
        scale: what similarities are multiplied by, > 0.
        bias: what is then added to them; strongly negative at first, since most pairs do not match.

    Returns:
        A scalar: the binary cross-entropy of all B * B pairs, divided by B.

    Source: SigLIP (Zhai et al. 2023, arXiv:2303.15343), equation 1.
    """
    image, text = scale * widen(image), widen(text)
    own = jnp.sum(image * text, axis=1) + bias
    others = over_pairs(SUM_SOFTPLUS, image, text, numbers(len(image), len(text)), operator.ne, bias)
    return jnp.mean(others + jax.nn.softplus(-own))
