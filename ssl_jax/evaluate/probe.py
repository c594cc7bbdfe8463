"""A linear classifier trained online, together with the encoder, to monitor its features.

It always sees the features of the backbone, whatever `evaluate.feature` is.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

MOMENTUM = 0.99  # decay of the running feature statistics
OPTIMIZER = optax.adamw(2e-3, weight_decay=1e-3)


class Probe(NamedTuple):
    """The state of the online probe, part of the training state."""

    seen: jax.Array  # [] updates so far
    mean: jax.Array  # [D] running mean of the features, biased: divide by 1 - MOMENTUM**seen
    square: jax.Array  # [D] running mean of their squares, likewise
    params: dict  # {"kernel": [D, classes], "bias": [classes]}
    opt_state: optax.OptState


def init(key: jax.Array, feature_dim: int, classes: int) -> Probe:
    """Returns a new probe for features [B, feature_dim] and labels in 0 .. classes - 1."""
    kernel = 0.01 * jax.random.normal(key, (feature_dim, classes))
    params = {"kernel": kernel, "bias": jnp.zeros(classes)}
    statistic = jnp.zeros(feature_dim)
    return Probe(jnp.int32(0), statistic, statistic, params, OPTIMIZER.init(params))


def update(probe: Probe, features: jax.Array, labels: jax.Array) -> tuple[Probe, dict[str, jax.Array]]:
    """Takes one AdamW step on the cross-entropy of a batch.

    The features are standardised by running statistics, so that one learning rate suits every encoder at any time of
    training.

    Args:
        probe: the state of the probe.
        features: [B, D] of any float type, or [B / k, D] of every k-th image; no gradient flows into them.
        labels: [B]; rows with the label -1 (unknown) are ignored.

    Returns:
        The next state, and {"probe_loss": the mean cross-entropy of the labelled rows, 0 without any}.
    """
    features = jax.lax.stop_gradient(features).astype(probe.mean.dtype)
    mean = MOMENTUM * probe.mean + (1 - MOMENTUM) * jnp.mean(features, 0)
    square = MOMENTUM * probe.square + (1 - MOMENTUM) * jnp.mean(features**2, 0)
    probe = probe._replace(seen=probe.seen + 1, mean=mean, square=square)
    labels = labels.reshape(len(features), -1)[:, 0]
    known = labels >= 0

    def loss(params):
        each = optax.losses.softmax_cross_entropy_with_integer_labels(
            logits(probe._replace(params=params), features), jnp.maximum(labels, 0)
        )
        return jnp.sum(jnp.where(known, each, 0)) / jnp.maximum(jnp.sum(known), 1).astype(each.dtype)

    value, gradients = jax.value_and_grad(loss)(probe.params)
    with jax.numpy_dtype_promotion("standard"):  # optax raises a decay to an integer power
        updates, opt_state = OPTIMIZER.update(gradients, probe.opt_state, probe.params)
    params = optax.apply_updates(probe.params, updates)
    return probe._replace(params=params, opt_state=opt_state), {"probe_loss": value}


def predict(probe: Probe, features: jax.Array) -> jax.Array:
    """Returns the classes [B] that the probe predicts for features [B, D]."""
    return jnp.argmax(logits(probe, features.astype(probe.mean.dtype)), -1)


def logits(probe: Probe, features: jax.Array) -> jax.Array:
    weight = 1 - MOMENTUM ** jnp.maximum(probe.seen, 1).astype(probe.mean.dtype)
    mean = probe.mean / weight
    variance = jnp.maximum(probe.square / weight - mean**2, 0)
    scale = jax.lax.rsqrt(variance + 1e-6 * (mean**2 + variance) + jnp.finfo(mean.dtype).tiny)
    return (features - mean[None]) * scale[None] @ probe.params["kernel"] + probe.params["bias"][None]
