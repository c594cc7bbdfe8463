"""placeholder"""

import jax, jax.numpy as jnp
from ssl_jax.errors import UserError
from ssl_jax.numeric import normalize


def padded(images):
    return -(-images // 1024) * 1024


def random_queue(key, size, dimension, rows):
    if size % rows:
        raise UserError("queue")
    return normalize(jax.random.normal(key, (size // rows, rows, dimension)))


def push(queue, rows, step):
    if not len(queue):
        return queue
    return jax.lax.dynamic_update_index_in_dim(queue, rows.astype(queue.dtype), step % len(queue), 0)


def empty_queue(size, rows, shape):
    if size and size % rows:
        raise UserError("queue")
    return jnp.zeros((size // rows, rows, *shape))


def queue_rows(queue):
    """Returns a queue [K / B, B, ...] as rows [K, ...]; the split axis goes first, so that merging the two moves nothing."""
    return queue.swapaxes(0, 1).reshape(-1, *queue.shape[2:])
