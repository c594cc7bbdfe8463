"""What methods remember of past images: queues of the last steps' embeddings, and banks with a row per image.

A queue [K / B, B, ...] has a slot per step. A step overwrites the oldest slot in place, and each device keeps the rows
that it made itself, so that nothing travels.
"""

import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError
from ssl_jax.numeric import normalize


def random_queue(key: jax.Array, size: int, dimension: int, rows: int) -> jax.Array:
    """Returns a queue of random rows of unit length.

    Args:
        key: of the draw.
        size: K, rows in all.
        dimension: D of a row.
        rows: B, those of a step.

    Returns:
        [K / B, B, D].

    Raises:
        UserError: if K is no multiple of B.
    """
    return normalize(jax.random.normal(key, (slots(size, rows), rows, dimension)))


def empty_queue(size: int, rows: int, shape: tuple[int, ...]) -> jax.Array:
    """Returns a queue [K / B, B, *shape] of zeros; with K = 0 it has no slot, and `push` leaves it as it is."""
    return jnp.zeros((slots(size, rows) if size else 0, rows, *shape))


def slots(size: int, rows: int) -> int:
    """Returns how many steps of `rows` rows a queue of `size` rows holds.

    Raises:
        UserError: if that is no whole number, or 0.
    """
    if size < rows or size % rows:
        below = max(size // rows, 1) * rows
        raise UserError(
            f"method.queue_size is {size} and a step adds {rows} rows; set it to a multiple of {rows}, such as {below}"
        )
    return size // rows


def push(queue: jax.Array, rows: jax.Array, step: jax.Array) -> jax.Array:
    """Returns a queue [K / B, B, ...] with rows [B, ...] in the slot of a step, where the oldest were."""
    if not len(queue):
        return queue
    return jax.lax.dynamic_update_index_in_dim(queue, rows.astype(queue.dtype), step % len(queue), axis=0)


def queue_rows(queue: jax.Array) -> jax.Array:
    """Returns a queue [K / B, B, ...] as rows [K, ...], in no particular order.

    The axis that devices share comes first, so that merging it with the slots moves nothing.
    """
    return queue.swapaxes(0, 1).reshape(-1, *queue.shape[2:])


def padded(images: int) -> int:
    """Returns the rows of a bank of so many images: rounded up, so that up to 1024 devices can share them evenly."""
    return -(-images // 1024) * 1024
