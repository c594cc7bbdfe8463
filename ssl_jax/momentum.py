"""Shared by methods with a momentum encoder and a queue of its keys (MoCo, He et al. 2019, arXiv:1911.05722)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.augment import Buckets, Views
from ssl_jax.errors import UserError
from ssl_jax.losses import info_nce
from ssl_jax.memory import queue_rows, random_queue
from ssl_jax.method import PyTree, Variables, apply, initialize
from ssl_jax.networks import Network
from ssl_jax.numeric import l2_normalize
from ssl_jax.parallel import take_rows


class Keys(NamedTuple):
    """The state of methods whose negatives are a queue of keys."""

    stats: PyTree  # BatchNorm statistics of the query encoder
    target: Variables  # the key encoder: moving average of the query encoder
    queue: jax.Array  # [K / B, B, D] unit-norm keys of past steps


def first_keys(network: Network, key: jax.Array, views: Views, size: int, keys: int = 1) -> tuple[PyTree, Keys]:
    """Returns the parameters to train, and the state before the first step: a copy of the network and a random queue.

    Args:
        network: the query encoder.
        key: a PRNG key.
        views: of a batch.
        size: K, keys in the queue.
        keys: how many each image adds at a step.
    """
    variables, shapes = initialize(network, key, views)
    batch, _, dimension = shapes.projection.shape
    queue = random_queue(jax.random.fold_in(key, 1), size, dimension, batch * keys)
    return {"network": variables.params}, Keys(variables.stats, variables, queue)


def shuffled(network: Network, target: Variables, view: Views, key: jax.Array | None) -> tuple:
    """Runs the key encoder on one view, with the rows in random order if `key` is given.

    If BatchNorm takes its statistics from sub-batches, query and key are then normalised with different rows, so that
    batch statistics cannot leak which pairs match.

    Raises:
        UserError: if the images of the batch differ in size.

    Returns:
        The outputs [B, 1, ...] in the order of the batch, and the target with its new statistics.

    Source: shuffling BN (arXiv:1911.05722, section 3.3).
    """
    if key is None:
        outputs, stats = apply(network, target, view)
        return outputs, target._replace(stats=stats)
    if isinstance(view[0], Buckets):
        raise UserError("shuffled keys need images of one size in a batch; set method.shuffle=false")
    order = jax.random.permutation(key, view[0].shape[0])
    outputs, stats = apply(network, target, jax.tree.map(lambda x: take_rows(x, order), view))
    back = jnp.argsort(order)
    return jax.tree.map(lambda x: take_rows(x, back), outputs), target._replace(stats=stats)


def find_key(
    projection: jax.Array, keys: jax.Array, queue: jax.Array, temperature: float, in_batch: bool = False
) -> jax.Array:
    """Returns InfoNCE of projections [B, V, D], whose positives are `keys` [B, D], against the keys of a queue."""
    return info_nce(l2_normalize(projection), keys, queue_rows(queue), temperature, in_batch)
