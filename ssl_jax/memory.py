"""Memories of past images: queues of the embeddings of recent steps, and banks with one row per image.

A queue [K / B, B, ...] has a slot per step. Each step overwrites the oldest slot in place, and each device keeps the
rows that it computed, so that no row moves between devices. After `push` at a step, slot `(step + 1) % (K / B)` is the
oldest. No loss depends on the order of the rows.

A bank [N, ...] is split over devices by rows; row i belongs to image i.
"""

import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError
from ssl_jax.numeric import l2_normalize


def random_queue(key: jax.Array, size: int, dimension: int, rows: int) -> jax.Array:
    """Returns a queue of random rows of unit length.

    Args:
        key: a PRNG key.
        size: K, the number of rows, a multiple of B.
        dimension: D.
        rows: B, the number of rows that each step pushes.

    Returns:
        [K / B, B, D].

    Raises:
        UserError: if K is not a multiple of B.
    """
    return l2_normalize(jax.random.normal(key, (slots(size, rows), rows, dimension)))


def empty_queue(size: int, rows: int, shape: tuple[int, ...]) -> jax.Array:
    """Returns a queue [K / B, B, *shape] of zeros; with K = 0 it has no slots, and `push` does nothing.

    Raises:
        UserError: if K is not a multiple of B. SwAV's code rounds K down instead.
    """
    return jnp.zeros((slots(size, rows) if size else 0, rows, *shape))


def slots(size: int, rows: int) -> int:
    """Returns the number of slots of a queue with `size` rows if each step pushes `rows`.

    Raises:
        UserError: if `size` is not a positive multiple of `rows`.
    """
    if size < rows or size % rows:
        below = size // rows * rows
        nearest = f"{below} or {below + rows}" if below else f"{rows}"
        raise UserError(
            f"method.queue_size is {size}, which is not a multiple of the {rows} rows that each step adds; "
            f"set it to {nearest}"
        )
    return size // rows


def push(queue: jax.Array, rows: jax.Array, step: jax.Array) -> jax.Array:
    """Returns a queue [K / B, B, ...] in which rows [B, ...] replace the oldest slot.

    For several views per image, push `as_rows(jnp.stack(views, axis=1))`: concatenating views that are split over
    devices would move their rows.
    """
    if not len(queue):
        return queue
    return jax.lax.dynamic_update_index_in_dim(queue, rows.astype(queue.dtype), step % len(queue), axis=0)


def queue_rows(queue: jax.Array) -> jax.Array:
    """Returns a queue [K / B, B, ...] as rows [K, ...], in no particular order.

    The axis that is split over devices comes first, so that merging it with the slots needs no communication; a plain
    reshape would gather the queue on every device.
    """
    return queue.swapaxes(0, 1).reshape(-1, *queue.shape[2:])


def padded(images: int) -> int:
    """Returns the number of rows of a bank: `images`, rounded up so that up to 1024 devices can split it evenly."""
    return -(-images // 1024) * 1024


def random_bank(key: jax.Array, rows: int, dimension: int) -> jax.Array:
    """Returns a bank [N, D] of random rows, of length 1 on average, as in the code of InstDisc's authors."""
    side = (3 / dimension) ** 0.5
    return jax.random.uniform(key, (rows, dimension), float, -side, side)


def update_bank(bank: jax.Array, index: jax.Array, rows: jax.Array, momentum: float) -> jax.Array:
    """Returns the bank [N, ..., D] with the rows of a batch moved towards new ones and scaled to unit length.

    Args:
        bank: rows of unit length, or random at first.
        index: int [B], the rows to move, all different.
        rows: [B, ..., D], new embeddings of unit length.
        momentum: the weight of the old row, in [0, 1).

    Source: the authors' code of InstDisc (arXiv:1805.01978), where a row moves half-way.
    """
    moved = l2_normalize(momentum * bank[index] + (1 - momentum) * jax.lax.stop_gradient(rows))
    return bank.at[index].set(moved.astype(bank.dtype))


def sample_candidates(key: jax.Array, index: jax.Array, negatives: int, images: int) -> jax.Array:
    """Returns int [B, 1 + K]: the own image of each row, `index` [B], then K drawn uniformly from all images."""
    drawn = jax.random.randint(key, (len(index), negatives), 0, images)
    return jnp.concatenate([index[:, None], drawn], axis=1)


def sample_other_classes(key: jax.Array, index: jax.Array, labels: jax.Array, negatives: int) -> jax.Array:
    """Returns int [B, 1 + K]: the own image of each row, then K drawn uniformly from all images of other classes.

    Args:
        key: a PRNG key.
        index: int [B], the own image of each row.
        labels: int [N], the class of every image, at least two classes.
        negatives: K.

    Source: CRD (Tian et al. 2019, arXiv:1910.10699), section 3.1.
    """
    order = jnp.argsort(labels)  # by class: the other classes are before and after the own
    sorted_labels, own = labels[order], labels[index]
    first, after = (jnp.searchsorted(sorted_labels, own, side)[:, None] for side in ("left", "right"))
    place = jax.random.randint(key, (len(index), negatives), 0, len(labels) - (after - first))
    place = jnp.where(place < first, place, place + after - first)
    return jnp.concatenate([index[:, None], order[place]], axis=1)
