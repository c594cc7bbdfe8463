"""Nearest neighbours by cosine, tile by tile, in a bank that the devices of a mesh may share."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from ssl_jax.numeric import normalize
from ssl_jax.parallel.mesh import AXIS

TILE = (1024, 4096)  # queries, and rows of the bank, that meet at a time


@functools.partial(jax.jit, static_argnames=("k", "mesh", "tile"))
def neighbors(
    bank: jax.Array,
    queries: jax.Array,
    k: int,
    valid: jax.Array | None = None,
    mesh: Mesh | None = None,
    tile: tuple[int, int] = TILE,
) -> tuple[jax.Array, jax.Array]:
    """Finds the k rows of a bank most similar to each query; of equal ones the first rows.

    Both are walked through in tiles with a running best k. On a mesh each device walks through its own rows of the
    bank, for a tile of everybody's queries: queries and candidates travel, the bank does not. Beyond its share of the
    arguments and a normalised copy of it, a device needs at most 4 * tile[0] * (tile[1] + k) numbers, whatever N and M
    are.

    Args:
        bank: [N, D] features of any float type, not normalised.
        queries: [M, D] features, likewise.
        k: how many to find; all N if there are fewer.
        valid: bool [N], the rows that can be found; None: all.
        mesh: the devices that share the rows of bank and queries; None: one device has all.
        tile: how many queries, over all devices, meet how many rows of a device's bank at a time.

    Returns:
        Cosine similarities [M, k] in at least float32, largest first, and positions in the bank int32 [M, k]. If there
        are fewer than k valid rows, the rest has a similarity of -inf and any position.
    """
    k, count = min(k, len(bank)), len(queries)
    valid = jnp.ones(len(bank), bool) if valid is None else valid
    if mesh is None:
        found = search(normalize(bank), valid, normalize(queries), k, tile)
    else:
        shares = [pad(x, mesh.size) for x in (normalize(bank), valid, normalize(queries))]
        split = functools.partial(search_shares, k=k, tile=tile)
        # The running best starts the same on all devices and then differs: no error, so without the check for that.
        found = jax.shard_map(
            split, mesh=mesh, in_specs=PartitionSpec(AXIS), out_specs=PartitionSpec(AXIS), check_vma=False
        )(*shares)
    similarity, position = (x[:count] for x in found)
    return similarity, position


def search(bank: jax.Array, valid: jax.Array, queries: jax.Array, k: int, tile: tuple[int, int]) -> Any:
    """`neighbors` of unit rows on one device."""
    tiles = into_tiles(bank, tile[1]), into_tiles(valid, tile[1])
    found = jax.lax.map(lambda some: walk(*tiles, some, k), into_tiles(queries, tile[0]))
    return jax.tree.map(lambda x: x.reshape(-1, k)[: len(queries)], found)


def search_shares(bank: jax.Array, valid: jax.Array, queries: jax.Array, k: int, tile: tuple[int, int]) -> Any:
    """`search` on one of several devices, each with its share of the rows of bank and queries."""
    tiles = into_tiles(bank, tile[1]), into_tiles(valid, tile[1])
    first = jax.lax.axis_index(AXIS) * len(bank)

    def meet(own):
        everyones = jax.lax.all_gather(own, AXIS, tiled=True)
        similarity, position = walk(*tiles, everyones, min(k, len(bank)))
        # Each device gets back what all found for its own queries, side by side in the order of the bank's rows.
        similarity, position = (jax.lax.all_to_all(x, AXIS, 0, 1, tiled=True) for x in (similarity, first + position))
        return best(similarity, position, k)

    found = jax.lax.map(meet, into_tiles(queries, max(1, tile[0] // jax.lax.axis_size(AXIS))))
    return jax.tree.map(lambda x: x.reshape(-1, k)[: len(queries)], found)


def walk(tiles: jax.Array, valid: jax.Array, queries: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Returns the k best of a bank in tiles [T, S, D], of which `valid` [T, S] count, for queries [M, D] at once."""
    starts = jnp.arange(len(tiles), dtype=jnp.int32) * tiles.shape[1]

    def meet(found, bank_tile):
        start, rows, valid = bank_tile
        similarity = jnp.matmul(queries, rows.T, precision=jax.lax.Precision.HIGHEST)
        similarity = jnp.where(valid[None], similarity, -jnp.inf)
        position = jnp.broadcast_to(start + jnp.arange(len(rows), dtype=jnp.int32)[None], similarity.shape)
        similarity, position = (jnp.concatenate(pair, 1) for pair in zip(found, (similarity, position), strict=True))
        return best(similarity, position, k), None

    shape = (len(queries), k)
    nothing = jnp.full(shape, -jnp.inf, queries.dtype), jnp.zeros(shape, jnp.int32)
    return jax.lax.scan(meet, nothing, (starts, tiles, valid))[0]


def best(similarity: jax.Array, position: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Returns the k most similar of the candidates [M, C], of equal ones the first."""
    similarity, chosen = jax.lax.top_k(similarity, k)
    return similarity, jnp.take_along_axis(position, chosen, 1)


def into_tiles(x: jax.Array, size: int) -> jax.Array:
    """Returns x [N, ...] as [ceil(N / size), size, ...], padded with zeros; in one tile if it is smaller."""
    x = pad(x, min(size, len(x)))
    return x.reshape(-1, min(size, len(x)), *x.shape[1:])


def pad(x: jax.Array, multiple: int) -> jax.Array:
    """Returns x [N, ...] with rows of zeros up to a multiple."""
    return jnp.pad(x, ((0, -len(x) % multiple), *((0, 0),) * (x.ndim - 1)))
