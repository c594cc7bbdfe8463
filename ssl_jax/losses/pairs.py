"""Sums over the pairs of two sets of rows, in memory for a tile of the pairs if all of them are many.

Each row of one set has a logit with each of the other, their dot product, and the logits of a row are reduced to one
number. The gradient computes the logits again, as in flash attention (Dao et al. 2022, arXiv:2205.14135), so that
neither pass keeps more than a tile of them.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.numeric import widen
from ssl_jax.parallel import ring, traced_row_shards

# The most logits a device computes at once, 64 MiB of float32. Up to here the few such arrays of the plain gradient are
# small beside the activations of a network; in tiles, it costs one more matrix product.
PLAIN = 2**24


class Reduction(NamedTuple):
    """How the logits of a row become one number."""

    start: float  # of no logits
    of: Callable[..., jax.Array]  # logits [N, M], where=bool [N, M] -> [N]
    join: Callable[[jax.Array, jax.Array], jax.Array]  # of some logits and of others -> of all
    slope: Callable[[jax.Array, jax.Array], jax.Array]  # logits [N, M], result [N, 1] -> derivative by each logit


LOG_SUM_EXP = Reduction(
    -jnp.inf,
    functools.partial(jax.nn.logsumexp, axis=1),
    jnp.logaddexp,
    lambda logits, result: jnp.exp(logits - result),
)
SUM = Reduction(0.0, functools.partial(jnp.sum, axis=1), jnp.add, lambda logits, result: jnp.ones_like(logits))
SUM_SOFTPLUS = Reduction(
    0.0,
    lambda logits, where: jnp.sum(jax.nn.softplus(logits), axis=1, where=where),
    jnp.add,
    lambda logits, result: jax.nn.sigmoid(logits),
)

# From the tags of rows, arrays [N, 1], and of columns, arrays [1, M], to the pairs that count: bool [N, M].
Allowed = Callable[[Any, Any], jax.Array]


def numbers(rows: int, columns: int) -> tuple[jax.Array, jax.Array]:
    """Returns the numbers of rows [N, 1] and columns [1, M], for devices to compute rather than to communicate."""
    return jax.lax.broadcasted_iota(jnp.int32, (rows, 1), 0), jax.lax.broadcasted_iota(jnp.int32, (1, columns), 1)


def over_pairs(
    reduction: Reduction,
    rows: jax.Array,
    columns: jax.Array,
    tags: tuple[Any, Any] = ((), ()),
    allowed: Allowed | None = None,
    offset: jax.Array | float = 0.0,
) -> jax.Array:
    """Reduces the logits `rows @ columns.T + offset` of each row.

    Args:
        reduction: how.
        rows: [N, D].
        columns: [M, D].
        tags: trees of arrays [N, 1], of rows, and [1, M], of columns, by which `allowed` tells pairs apart.
        allowed: which pairs count; None: all.
        offset: a scalar, or one for each row [N].

    Returns:
        [N], in at least float32.
    """
    rows, columns = widen(rows), widen(columns)
    offset = jnp.broadcast_to(jnp.asarray(offset, rows.dtype), len(rows))
    if len(rows) * len(columns) > PLAIN * traced_row_shards():
        return tiled(reduction, allowed, rows, columns, offset, tags)
    where = None if allowed is None else allowed(*tags)
    return reduction.of(rows @ columns.T + offset[:, None], where=where)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def tiled(reduction, allowed, rows, columns, offset, tags):
    """Returns `over_pairs` in tiles."""
    return forward(reduction, allowed, rows, columns, offset, tags)[0]


def forward(reduction, allowed, rows, columns, offset, tags):
    def visit(left, right):
        logits, where = meet(allowed, left.given, right.given)
        return reduction.join(left.found, reduction.of(logits, where=where)), ()

    row_side, column_side = sides(rows, columns, offset, tags)
    start = jnp.full_like(offset, reduction.start)
    result, _ = ring.all_pairs(visit, ring.Side(row_side, start), ring.Side(column_side, ()))
    return result, (rows, columns, offset, tags, result)


def backward(reduction, allowed, saved, gradient):
    rows, columns, offset, tags, result = saved

    def visit(left, right):
        *own, result, gradient = left.given
        logits, where = meet(allowed, own, right.given)
        change = jnp.where(where, gradient[:, None] * reduction.slope(logits, result[:, None]), 0)
        of_rows, of_offset = left.found
        rows, columns = own[0], right.given[0]
        return (of_rows + change @ columns, of_offset + change.sum(1)), right.found + change.T @ rows

    row_side, column_side = sides(rows, columns, offset, tags)
    zeros = jax.tree.map(jnp.zeros_like, ((rows, offset), columns))
    left, right = ring.Side((*row_side, result, gradient), zeros[0]), ring.Side(column_side, zeros[1])
    (of_rows, of_offset), of_columns = ring.all_pairs(visit, left, right)
    return of_rows, of_columns, of_offset, None


tiled.defvjp(forward, backward)


def sides(rows, columns, offset, tags):
    """What rows and columns bring along; the last of the columns' says that they are there, and no filling."""
    row_tags, column_tags = jax.tree.map(jnp.ravel, tags)
    return (rows, offset, row_tags), (columns, column_tags, jnp.ones(len(columns), bool))


def meet(allowed, left, right):
    """The logits of a tile, and which of them count."""
    rows, offset, row_tags = left
    columns, column_tags, real = right
    logits = rows @ columns.T + offset[:, None]
    where = jnp.broadcast_to(real[None], logits.shape)
    if allowed is not None:
        facing = jax.tree.map(lambda x: x[:, None], row_tags), jax.tree.map(lambda x: x[None], column_tags)
        where &= allowed(*facing)
    return logits, where
