"""Exact nearest neighbours by cosine, in tiles, in a bank that may be split over a mesh."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from ssl_jax.numeric import l2_normalize
from ssl_jax.parallel.mesh import ROWS, row_shards

TILE = (1024, 4096)  # queries and rows of the bank that are compared at a time


@functools.partial(jax.jit, static_argnames=("k", "mesh", "tile"))
def neighbors(
    bank: jax.Array,
    queries: jax.Array,
    k: int,
    valid: jax.Array | None = None,
    mesh: Mesh | None = None,
    tile: tuple[int, int] = TILE,
) -> tuple[jax.Array, jax.Array]:
    """Finds the k rows of a bank that are most similar to each query; of equal ones, the first.

    Both are processed in tiles, with a running best k. On a mesh, each device compares its own rows of the bank with a
    tile of the queries of all devices: queries and candidates are communicated, the bank is not. Beyond its share of
    the arguments and a normalised copy of it, a device needs at most 4 * tile[0] * (tile[1] + k) numbers, whatever N
    and M are.

    Args:
        bank: [N, D] features of any float type, which need not be normalised.
        queries: [M, D] features, likewise.
        k: the number of neighbours; all N if there are fewer rows.
        valid: bool [N], the rows that can be found; None: all.
        mesh: the devices over which bank and queries are split by rows; None: one device has all.
        tile: the number of queries, over all devices, and of rows of a device's bank to compare at a time.

    Returns:
        Cosine similarities [M, k] in at least float32, in decreasing order, and positions in the bank, int32 [M, k].
        With fewer than k valid rows, the rest has a similarity of -inf and arbitrary positions.
    """
    k, count = min(k, len(bank)), len(queries)
    valid = jnp.ones(len(bank), bool) if valid is None else valid
    if mesh is None:
        found = search(l2_normalize(bank), valid, l2_normalize(queries), k, tile)
    else:
        shares = [pad(x, row_shards(mesh)) for x in (l2_normalize(bank), valid, l2_normalize(queries))]
        split = functools.partial(search_shares, k=k, tile=tile)
        # The running best starts equal on all devices and then varies, which the check would reject.
        found = jax.shard_map(
            split, mesh=mesh, in_specs=PartitionSpec(ROWS), out_specs=PartitionSpec(ROWS), check_vma=False
        )(*shares)
    similarity, position = (x[:count] for x in found)
    return similarity, position


def search(bank: jax.Array, valid: jax.Array, queries: jax.Array, k: int, tile: tuple[int, int]) -> Any:
    """Returns `neighbors` of unit-norm rows on one device."""
    tiles = into_tiles(bank, tile[1]), into_tiles(valid, tile[1])
    found = jax.lax.map(lambda some: walk(*tiles, some, k), into_tiles(queries, tile[0]))
    return jax.tree.map(lambda x: x.reshape(-1, k)[: len(queries)], found)


def search_shares(bank: jax.Array, valid: jax.Array, queries: jax.Array, k: int, tile: tuple[int, int]) -> Any:
    """Returns the results for the queries of one device, which has its share of the rows of bank and queries."""
    tiles = into_tiles(bank, tile[1]), into_tiles(valid, tile[1])
    first = jax.lax.axis_index(ROWS) * len(bank)

    def meet(own):
        everyones = jax.lax.all_gather(own, ROWS, tiled=True)
        similarity, position = walk(*tiles, everyones, min(k, len(bank)))
        # Each device receives the results of all devices for its own queries, in the order of the rows of the bank.
        similarity, position = (jax.lax.all_to_all(x, ROWS, 0, 1, tiled=True) for x in (similarity, first + position))
        return best(similarity, position, k)

    found = jax.lax.map(meet, into_tiles(queries, max(1, tile[0] // jax.lax.axis_size(ROWS))))
    return jax.tree.map(lambda x: x.reshape(-1, k)[: len(queries)], found)


def walk(tiles: jax.Array, valid: jax.Array, queries: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Returns the k best rows, among the valid [T, S] of a bank in tiles [T, S, D], for queries [M, D] at once."""
    starts = jnp.arange(len(tiles), dtype=jnp.int32) * tiles.shape[1]

    def meet(found, bank_tile):
        start, rows, valid = bank_tile
        similarity = jnp.matmul(queries, rows.T, precision=jax.lax.Precision.HIGHEST)
        similarity = jnp.where(valid[None], similarity, -jnp.inf)
        similarity, chosen = jax.lax.top_k(jnp.concatenate([found[0], similarity], 1), k)
        before = jnp.take_along_axis(found[1], jnp.minimum(chosen, k - 1), 1)
        return (similarity, jnp.where(chosen < k, before, start + chosen - k)), None

    shape = (len(queries), k)
    nothing = jnp.full(shape, -jnp.inf, queries.dtype), jnp.zeros(shape, jnp.int32)
    return jax.lax.scan(meet, nothing, (starts, tiles, valid))[0]


def best(similarity: jax.Array, position: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Returns the k most similar of the candidates [M, C]; of equal ones, the first."""
    similarity, chosen = jax.lax.top_k(similarity, k)
    return similarity, jnp.take_along_axis(position, chosen, 1)


def into_tiles(x: jax.Array, size: int) -> jax.Array:
    """Returns x [N, ...] in tiles [ceil(N / size), size, ...], padded with zeros; if N < size, in one tile of N."""
    x = pad(x, min(size, len(x)))
    return x.reshape(-1, min(size, len(x)), *x.shape[1:])


def pad(x: jax.Array, multiple: int) -> jax.Array:
    """Returns x [N, ...], padded with rows of zeros to a multiple of `multiple`."""
    return jnp.pad(x, ((0, -len(x) % multiple), *((0, 0),) * (x.ndim - 1)))
