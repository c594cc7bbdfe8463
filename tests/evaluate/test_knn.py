"""The k-NN classifier against brute force in numpy, and its bound on memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_mesh import collectives

from ssl_jax import parallel
from ssl_jax.evaluate.knn import class_scores, top1, weighted_knn
from ssl_jax.parallel import neighbors


def brute_force(bank, labels, queries, classes, k, temperature):
    bank, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank, queries))
    similarity = queries @ bank.T
    order = np.argsort(-similarity, 1)[:, :k]
    scores = np.zeros((len(queries), classes))
    for query, found in enumerate(order):
        for row in found:
            if labels[row] >= 0:
                scores[query, labels[row]] += np.exp(similarity[query, row] / temperature)
    return order, scores


def draw(n=101, m=37, d=8, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    bank, queries = rng.normal(size=(n, d)), 3 * rng.normal(size=(m, d))
    labels = rng.integers(-1, classes, n)
    return jnp.asarray(bank, jnp.float32), jnp.asarray(labels), jnp.asarray(queries, jnp.float32)


@pytest.mark.parametrize("k", [1, 20, 101, 500])
def test_votes_as_brute_force_does(k):
    bank, labels, queries = draw()
    order, scores = brute_force(*map(np.asarray, (bank, labels, queries)), 5, k, 0.1)
    np.testing.assert_array_equal(neighbors(bank, queries, k)[1], order)
    np.testing.assert_allclose(class_scores(bank, labels, queries, 5, k, 0.1), scores, rtol=1e-4)
    np.testing.assert_array_equal(weighted_knn(bank, labels, queries, 5, k, 0.1), scores.argmax(1))


@pytest.mark.parametrize("tile", [(1, 1), (10, 7), (37, 101), (64, 50), (10, 101)])
def test_any_tiles_give_the_same(tile):
    bank, _, queries = draw()
    similarity, index = neighbors(bank, queries, 9)
    tiled_similarity, tiled_index = neighbors(bank, queries, 9, tile=tile)
    np.testing.assert_array_equal(tiled_index, index)
    np.testing.assert_allclose(tiled_similarity, similarity, rtol=1e-5, atol=1e-6)


def test_only_directions_count():
    bank, _, queries = draw()
    lengths = jnp.linspace(0.1, 100, len(bank))
    _, index = neighbors(bank * lengths[:, None], 7 * queries, 5)
    np.testing.assert_array_equal(index, neighbors(bank, queries, 5)[1])


def test_half_precision_features_are_compared_in_float32():
    bank, _, queries = (x.astype(jnp.bfloat16) if x.ndim == 2 else x for x in draw())
    similarity, _ = neighbors(bank, queries, 5)
    wide, _ = neighbors(bank.astype(jnp.float32), queries.astype(jnp.float32), 5)
    assert similarity.dtype == jnp.float32
    np.testing.assert_array_equal(similarity, wide)


def test_memory_does_not_grow_with_the_similarity_matrix():
    n, m, d, k, tile = 40_000, 20_000, 16, 20, (256, 1024)
    shapes = (jax.ShapeDtypeStruct((rows, d), jnp.float32) for rows in (n, m))
    memory = neighbors.lower(*shapes, k, tile=tile).compile().memory_analysis()
    copies, result = (n + m + sum(tile)) * d * 4, 2 * (m + tile[0]) * k * 4
    assert memory.temp_size_in_bytes < copies + result + 4 * tile[0] * (tile[1] + k) * 4


def test_sharded_features_give_the_same():
    bank, labels, queries = draw(n=104, m=40)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    sharded = jax.device_put((bank, labels, queries), rows)
    np.testing.assert_array_equal(weighted_knn(*sharded, 5), weighted_knn(bank, labels, queries, 5))


def test_top1_is_in_percent_of_the_known():
    assert top1(jnp.array([0, 1, 2, 3]), np.array([0, 1, 2, 0])) == 75.0
    assert top1(jnp.array([0, 1, 2, -1]), np.array([0, 1, -1, -1])) == 100.0
    assert top1(jnp.array([0, 1]), np.array([-1, -1])) == 0.0


def on_mesh(devices, *arrays):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    return mesh, jax.device_put(arrays, parallel.batch_sharding(mesh))


@pytest.mark.parametrize("tile", [(1024, 4096), (16, 5), (1, 1)])
@pytest.mark.parametrize("k", [1, 9, 20, 500])
def test_devices_that_share_the_bank_find_the_same(k, tile):
    bank, _, queries = draw(n=104, m=40)
    similarity, index = neighbors(bank, queries, k)
    for devices in (1, 8):
        mesh, shares = on_mesh(devices, bank, queries)
        split_similarity, split_index = neighbors(*shares, k, mesh=mesh, tile=tile)
        np.testing.assert_array_equal(split_index, index)
        np.testing.assert_allclose(split_similarity, similarity, rtol=1e-5, atol=1e-6)


def test_rows_that_cannot_be_shared_evenly_are_found_too():
    bank, _, queries = draw(n=101, m=37)
    found = neighbors(bank, queries, 9, mesh=parallel.make_mesh())
    np.testing.assert_array_equal(found[1], neighbors(bank, queries, 9)[1])


@pytest.mark.parametrize("devices", [None, 1, 8])
@pytest.mark.parametrize("tile", [(1024, 4096), (8, 3)])
def test_of_equal_rows_the_first_are_found(devices, tile):
    directions = np.repeat(np.eye(4, dtype=np.float32), 4, 0)  # exact, so equal to the bit
    bank, queries = jnp.asarray(np.tile(directions, (4, 1))), jnp.asarray(np.eye(4, dtype=np.float32)[np.arange(8) % 4])
    mesh = None
    if devices:
        mesh, (bank, queries) = on_mesh(devices, bank, queries)
    similarity, index = neighbors(bank, queries, 10, mesh=mesh, tile=tile)
    first = np.concatenate([16 * turn + np.arange(4) for turn in range(4)])[:10]
    np.testing.assert_array_equal(similarity, 1)
    np.testing.assert_array_equal(index, first[None] + 4 * (np.arange(8) % 4)[:, None])


@pytest.mark.parametrize("devices", [None, 8])
def test_rows_that_are_not_valid_are_not_found(devices):
    bank, labels, queries = draw(n=104, m=40)
    valid = jnp.arange(104) % 3 == 0
    kept = np.flatnonzero(valid)
    _, index = neighbors(bank[kept], queries, 20)
    expected = class_scores(bank[kept], labels[kept], queries, 5)
    mesh, shares = None, (bank, labels, queries, valid)
    if devices:
        mesh, shares = on_mesh(devices, *shares)
    bank, labels, queries, valid = shares
    np.testing.assert_array_equal(neighbors(bank, queries, 20, valid, mesh)[1], kept[index])
    np.testing.assert_allclose(class_scores(bank, labels, queries, 5, valid=valid, mesh=mesh), expected, rtol=1e-4)
    few = neighbors(bank, queries, 50, valid, mesh)[0]  # 35 are valid
    np.testing.assert_array_equal(np.isfinite(few), np.broadcast_to(np.arange(50) < 35, few.shape))


def test_no_device_has_more_of_the_bank_than_its_share():
    n, m, d, k, tile = 40_000, 2_000, 16, 20, (256, 1024)
    mesh = parallel.make_mesh()
    shapes = [jax.ShapeDtypeStruct((rows, d), jnp.float32, sharding=parallel.batch_sharding(mesh)) for rows in (n, m)]
    compiled = neighbors.lower(*shapes, k, mesh=mesh, tile=tile).compile()
    text = compiled.as_text()
    moved = [shape for kind in ("all-gather", "all-to-all", "all-reduce") for shape in collectives(text, kind)]
    assert moved and max(map(np.prod, moved)) <= tile[0] * max(d, k)
    copies, result = ((n + m) // 8 + sum(tile)) * d * 4, 2 * (m // 8 + tile[0]) * k * 4
    assert compiled.memory_analysis().temp_size_in_bytes < 2 * copies + result + 4 * tile[0] * (tile[1] + k) * 4
