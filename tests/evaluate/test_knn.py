"""The k-NN classifier against brute force in numpy, and its bound on memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.evaluate.knn import class_scores, nearest, neighbors, top1, weighted_knn


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
    np.testing.assert_array_equal(nearest(bank, queries, k), order)
    np.testing.assert_allclose(class_scores(bank, labels, queries, 5, k, 0.1), scores, rtol=1e-4)
    np.testing.assert_array_equal(weighted_knn(bank, labels, queries, 5, k, 0.1), scores.argmax(1))


@pytest.mark.parametrize("tile", [(1, 1), (10, 7), (37, 101), (64, 50), (10, 101)])
def test_any_tiles_give_the_same(tile):
    bank, _, queries = draw()
    similarity, index = neighbors(bank, queries, 9)
    tiled_similarity, tiled_index = neighbors(bank, queries, 9, tile)
    np.testing.assert_array_equal(tiled_index, index)
    np.testing.assert_allclose(tiled_similarity, similarity, rtol=1e-5, atol=1e-6)


def test_only_directions_count():
    bank, _, queries = draw()
    lengths = jnp.linspace(0.1, 100, len(bank))
    np.testing.assert_array_equal(nearest(bank * lengths[:, None], 7 * queries, 5), nearest(bank, queries, 5))


def test_half_precision_features_are_compared_in_float32():
    bank, _, queries = (x.astype(jnp.bfloat16) if x.ndim == 2 else x for x in draw())
    similarity, _ = neighbors(bank, queries, 5)
    wide, _ = neighbors(bank.astype(jnp.float32), queries.astype(jnp.float32), 5)
    assert similarity.dtype == jnp.float32
    np.testing.assert_array_equal(similarity, wide)


def test_memory_does_not_grow_with_the_similarity_matrix():
    n, m, d, k, tile = 40_000, 20_000, 16, 20, (256, 1024)
    shapes = (jax.ShapeDtypeStruct((rows, d), jnp.float32) for rows in (n, m))
    memory = neighbors.lower(*shapes, k, tile).compile().memory_analysis()
    copies, result = (n + m + sum(tile)) * d * 4, 2 * (m + tile[0]) * k * 4
    assert memory.temp_size_in_bytes < copies + result + 4 * tile[0] * (tile[1] + k) * 4


def test_sharded_features_give_the_same():
    bank, labels, queries = draw(n=104, m=40)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    sharded = jax.device_put((bank, labels, queries), rows)
    np.testing.assert_array_equal(weighted_knn(*sharded, 5), weighted_knn(bank, labels, queries, 5))


def test_top1_is_in_percent():
    assert top1(jnp.array([0, 1, 2, 3]), np.array([0, 1, 2, 0])) == 75.0
