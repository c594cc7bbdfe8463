"""Supervised metric learning with one learned proxy per class instead of pairs."""

import jax
import jax.numpy as jnp

from ssl_jax.losses.metric import softplus_sum
from ssl_jax.numeric import widen


def proxy_nca(embedding: jax.Array, label: jax.Array, proxies: jax.Array, scale: float) -> jax.Array:
    """Cross-entropy of finding the proxy of a row's class by squared distance.

    Args:
        embedding: [N, D], of unit length.
        label: int [N].
        proxies: [C, D], of unit length.
        scale: a factor of the distances, > 0.

    Returns:
        A scalar, the mean over rows; log C if all proxies are equally far.

    Source: Movshovitz-Attias et al. 2017 (arXiv:1703.07464), equation 4, with the positive among the candidates as in
    ProxyNCA++ (Teh et al. 2020, arXiv:2004.01113), equation 6.
    """
    x, p = widen(embedding), widen(proxies)
    square = jnp.sum((x[:, None, :] - p[None, :, :]) ** 2, -1)
    log_probability = jax.nn.log_softmax(-scale * square)
    return -jnp.mean(jnp.take_along_axis(log_probability, label[:, None], axis=1))


def proxy_anchor(
    embedding: jax.Array, label: jax.Array, proxies: jax.Array, margin: float = 0.1, scale: float = 32.0
) -> jax.Array:
    """Proxy-Anchor loss: each proxy attracts the rows of its class and repels the others, the hardest most.

    Args:
        embedding: [N, D], of unit length.
        label: int [N].
        proxies: [C, D], of unit length.
        margin: delta.
        scale: alpha > 0.

    Returns:
        A scalar: the mean attraction over proxies with rows in the batch, plus the mean repulsion over all proxies.

    Source: Kim et al. 2020 (arXiv:2003.13911), equation 4.
    """
    similarity = widen(embedding) @ widen(proxies).T
    own = label[:, None] == jnp.arange(len(proxies), dtype=label.dtype)[None, :]
    pull = softplus_sum(-scale * (similarity - margin), own, axis=0)
    push = softplus_sum(scale * (similarity + margin), ~own, axis=0)
    return jnp.sum(pull) / jnp.maximum(jnp.sum(jnp.any(own, 0), dtype=pull.dtype), 1) + jnp.mean(push)
