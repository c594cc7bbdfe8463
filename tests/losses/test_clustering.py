"""Clustering losses against slow transcriptions, closed forms and invariances."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax import parallel
from ssl_jax.losses import (
    cluster_weights,
    clustering,
    entropy,
    kmeans,
    prototype_cross_entropy,
    random_rows,
    sinkhorn,
    spherical_kmeans,
    swapped_prediction,
    whiten,
)
from ssl_jax.losses.clustering import most_similar


def cosines(seed, *shape):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def algorithm_1(scores, epsilon, iterations):
    """Sinkhorn-Knopp of SwAV on the K x B matrix, written out."""
    q = np.exp(np.float64(scores) / epsilon).T
    q /= q.sum()
    for _ in range(iterations):
        for k in range(len(q)):
            q[k] /= q[k].sum() * len(q)
        for b in range(q.shape[1]):
            q[:, b] /= q[:, b].sum() * q.shape[1]
    return (q * q.shape[1]).T


@pytest.mark.parametrize("size, epsilon, iterations", [((12, 5), 0.05, 3), ((6, 20), 0.5, 1)])
def test_sinkhorn(size, epsilon, iterations):
    scores = cosines(0, *size)
    codes = sinkhorn(jnp.asarray(scores), epsilon, iterations)
    np.testing.assert_allclose(codes, algorithm_1(scores, epsilon, iterations), rtol=1e-4, atol=1e-7)


def test_sinkhorn_rows_sum_to_one_and_prototypes_to_their_share():
    codes = sinkhorn(jnp.asarray(cosines(1, 32, 8)), 0.05, 3)
    np.testing.assert_allclose(codes.sum(1), 1.0, rtol=1e-5)
    codes = sinkhorn(jnp.asarray(cosines(1, 32, 8)), 0.2, 100)
    np.testing.assert_allclose(codes.sum(0), 32 / 8, rtol=1e-4)


@pytest.mark.parametrize("constant", [-100.0, 3.0, 1000.0])
def test_sinkhorn_ignores_a_constant(constant):
    scores = jnp.asarray(np.round(cosines(2, 16, 6) * 256) / 256)  # so that the sum with the constant is exact
    np.testing.assert_allclose(sinkhorn(scores + constant, 0.05, 3), sinkhorn(scores, 0.05, 3), rtol=1e-5)


def test_sinkhorn_of_equal_scores_is_uniform():
    np.testing.assert_allclose(sinkhorn(jnp.full((6, 4), 0.7), 0.05, 3), 0.25, rtol=1e-6)


def test_sinkhorn_permutes_with_rows_and_prototypes():
    scores, rng = cosines(3, 10, 7), np.random.default_rng(0)
    rows, prototypes = rng.permutation(10), rng.permutation(7)
    codes = sinkhorn(jnp.asarray(scores), 0.05, 3)
    permuted = sinkhorn(jnp.asarray(scores[rows][:, prototypes]), 0.05, 3)
    np.testing.assert_allclose(permuted, codes[rows][:, prototypes], rtol=1e-4)


def test_sinkhorn_rows_of_the_past_fill_prototypes_like_any_others():
    scores = jnp.asarray(cosines(4, 8, 5))
    codes = sinkhorn(scores[:6], 0.05, 3, past=scores[6:])
    np.testing.assert_allclose(codes, sinkhorn(scores, 0.05, 3)[:6], rtol=1e-4)


@pytest.mark.parametrize("junk", [0.0, -1.0, 1.0])
def test_sinkhorn_a_past_of_weight_zero_is_not_there(junk):
    scores = jnp.asarray(cosines(4, 8, 5))
    codes = sinkhorn(scores, 0.05, 3, past=jnp.full((3, 5), junk), weight=jnp.zeros(()))
    np.testing.assert_allclose(codes, sinkhorn(scores, 0.05, 3), rtol=1e-4)


def test_sinkhorn_a_past_of_weight_one_half_counts_half():
    """Two copies of weight one half are one row."""
    scores = jnp.asarray(cosines(5, 6, 4))
    twice = jnp.concatenate([scores[-1:]] * 2)
    codes = sinkhorn(scores[:-1], 0.05, 3, past=twice, weight=0.5)
    np.testing.assert_allclose(codes, sinkhorn(scores, 0.05, 3)[:-1], rtol=1e-4)


def test_sinkhorn_only_counted_rows_fill_prototypes():
    scores, counted = jnp.asarray(cosines(6, 12, 5)), np.arange(12) % 3 > 0
    codes = sinkhorn(scores, 0.1, 3, counted=jnp.asarray(counted))
    np.testing.assert_allclose(codes[counted], sinkhorn(scores[counted], 0.1, 3), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(codes.sum(1), np.ones(12), rtol=1e-5)


def test_sinkhorn_without_iterations_is_a_softmax():
    scores = jnp.asarray(cosines(5, 6, 4))
    np.testing.assert_allclose(sinkhorn(scores, 0.05, 0), jax.nn.softmax(scores / 0.05), rtol=1e-5)


def test_swapped_prediction_is_the_mean_over_pairs_of_different_views():
    images, assigned, views, prototypes, temperature = 3, 2, 4, 5, 0.3
    codes = np.random.default_rng(0).dirichlet(np.ones(prototypes), (images, assigned)).astype(np.float32)
    scores = cosines(6, images, views, prototypes)
    terms = []
    for b, a, v in itertools.product(range(images), range(assigned), range(views)):
        if a != v:
            probability = np.exp(np.float64(scores[b, v]) / temperature)
            terms.append(-np.sum(codes[b, a] * np.log(probability / probability.sum())))
    loss = swapped_prediction(jnp.asarray(codes), jnp.asarray(scores), temperature)
    np.testing.assert_allclose(loss, np.mean(terms), rtol=1e-5)


def test_swapped_prediction_is_log_k_where_predictions_are_uniform():
    codes = sinkhorn(jnp.asarray(cosines(7, 8, 30)), 0.05, 3)[:, None]
    np.testing.assert_allclose(swapped_prediction(codes, jnp.ones((8, 2, 30)), 0.1), np.log(30), rtol=1e-5)


def test_entropy():
    uniform, one_hot, coin = jnp.full(4, 0.25), jnp.array([0.0, 1, 0, 0]), jnp.array([0.5, 0.5, 0, 0])
    np.testing.assert_allclose(entropy(jnp.stack([uniform, one_hot, coin])), [np.log(4), 0, np.log(2)], atol=1e-6)


def circle(*degrees):
    angles = np.deg2rad(degrees)
    return jnp.asarray(np.stack([np.cos(angles), np.sin(angles)], 1), jnp.float32)


def test_spherical_kmeans_finds_two_groups_and_keeps_an_empty_centroid():
    points = circle(0, 10, 20, 90, 100)
    centroids, assignment = spherical_kmeans(points, circle(30, 70, 225), 5)
    np.testing.assert_array_equal(assignment, [0, 0, 0, 1, 1])
    np.testing.assert_allclose(centroids, circle(10, 95, 225), atol=1e-6)


def test_spherical_kmeans_assigns_to_the_centroids_it_returns():
    points = jnp.asarray(cosines(8, 40, 3))
    points = points / jnp.linalg.norm(points, axis=1, keepdims=True)
    centroids, assignment = spherical_kmeans(points, points[:6], 2)
    np.testing.assert_array_equal(assignment, np.argmax(points @ centroids.T, 1))
    _, before = spherical_kmeans(points, points[:6], 0)
    np.testing.assert_array_equal(before[:6], np.arange(6))

    def closeness(centroids, assignment):
        return jnp.sum(points * centroids[assignment])

    assert closeness(centroids, assignment) > closeness(points[:6], before)


def test_prototype_cross_entropy_leaves_the_unknown_out():
    scores, temperature = jnp.asarray(cosines(9, 4, 6)), 0.2
    assignment, unknown = jnp.array([2, -1, 5, -1]), jnp.full(4, -1)
    log_probability = jax.nn.log_softmax(scores / temperature)
    expected = -(log_probability[0, 2] + log_probability[2, 5]) / 2
    np.testing.assert_allclose(prototype_cross_entropy(scores, assignment, temperature), expected, rtol=1e-5)
    np.testing.assert_allclose(prototype_cross_entropy(0 * scores, assignment, temperature), np.log(6), rtol=1e-6)
    assert prototype_cross_entropy(scores, unknown, temperature) == 0


def test_prototype_cross_entropy_multiplies_each_term_by_its_weight():
    scores, assignment = jnp.asarray(cosines(10, 3, 6)), jnp.array([2, 4, -1])
    weighted = prototype_cross_entropy(scores, assignment, 0.2, jnp.array([2.0, 1.0, 9.0]))
    terms = [float(prototype_cross_entropy(scores[i : i + 1], assignment[i : i + 1], 0.2)) for i in range(2)]
    np.testing.assert_allclose(weighted, (2 * terms[0] + terms[1]) / 2, rtol=1e-6)


def test_cluster_weights_make_clusters_count_alike_and_keep_the_mean_at_one():
    sizes = np.array([6, 2, 0, 4])
    weights = np.asarray(cluster_weights(jnp.asarray(sizes)))
    np.testing.assert_allclose((sizes * weights)[[0, 1, 3]], 12 / 3, rtol=1e-6)
    for sizes in ([6, 2, 0, 4], [1000, 1, 3]):
        weights = np.asarray(cluster_weights(jnp.array(sizes), most=5.0))
        np.testing.assert_allclose(np.dot(sizes, weights) / sum(sizes), 1, rtol=1e-6)
        assert max(weights) / min(weights) <= 5 * max(sizes) * len(sizes) / sum(sizes) + 1e-4


@pytest.mark.parametrize("count", [5, 1024, 1500])
def test_points_find_their_centroid_tile_by_tile(count):
    random = np.random.default_rng(0)
    points, centroids = (random.normal(size=(n, 3)).astype(np.float32) for n in (count, 7))
    expected = np.argmax(points @ centroids.T + np.arange(7) / 9, axis=1)
    bias = jnp.arange(7) / 9
    np.testing.assert_array_equal(most_similar(jnp.asarray(points), jnp.asarray(centroids), bias), expected)
    if count > clustering.TILE:
        shapes = str(jax.make_jaxpr(most_similar)(points, centroids, bias))
        assert f"{count},7]" not in shapes and "2048,7]" not in shapes  # no [N, K] matrix exists


def test_clusters_are_the_same_on_one_device_and_on_eight():
    key, known = jax.random.key(0), jnp.ones(2048, bool)
    points = jax.random.normal(key, (2048, 4))
    split = jax.device_put((points, known), parallel.batch_sharding(parallel.make_mesh()))
    centroids = [kmeans(key, *rows, points[:6], 5) for rows in ((points, known), split)]
    np.testing.assert_allclose(centroids[0][0], centroids[1][0], rtol=1e-4)
    np.testing.assert_array_equal(centroids[0][1], centroids[1][1])


def lloyd(points, centroids, iterations):
    """Euclidean k-means, written out."""
    points, centroids = np.float64(points), np.float64(centroids)
    for i in range(iterations + 1):
        assignment = np.array([np.argmin([np.sum((x - c) ** 2) for c in centroids]) for x in points])
        if i < iterations:
            centroids = np.stack([points[assignment == k].mean(0) for k in range(len(centroids))])
    return centroids, assignment


def test_kmeans_is_lloyd_s_algorithm(key):
    rng = np.random.default_rng(11)
    points = (rng.normal(size=(60, 3)) + 3 * rng.integers(0, 3, (60, 1))).astype(np.float32)
    expected, nearest = lloyd(points, points[:5], 4)
    centroids, assignment = kmeans(key, jnp.asarray(points), jnp.ones(60, bool), jnp.asarray(points[:5]), 4)
    np.testing.assert_allclose(centroids, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(assignment, nearest)


def test_kmeans_of_unknown_points_moves_nothing(key):
    points, junk = cosines(12, 20, 3), np.full((6, 3), 50.0, np.float32)
    known = jnp.arange(26) < 20
    ours, assignment = kmeans(key, jnp.asarray(np.concatenate([points, junk])), known, jnp.asarray(points[:4]), 3)
    alone, expected = kmeans(key, jnp.asarray(points), known[:20], jnp.asarray(points[:4]), 3)
    np.testing.assert_allclose(ours, alone, rtol=1e-5)
    np.testing.assert_array_equal(assignment[:20], expected)


def test_kmeans_splits_a_cluster_that_can_be_split_where_one_is_empty(key):
    """A cluster of one point is not split; after one step there is a copy, after two it has its share of the points."""
    points = jnp.concatenate([jnp.asarray(cosines(13, 30, 2)) + 3, jnp.full((1, 2), -40.0)])
    first, known = jnp.asarray([[3.0, 3.0], [-40.0, -40.0], [900.0, 900.0]]), jnp.ones(31, bool)
    centroids, _ = kmeans(key, points, known, first, 1)
    np.testing.assert_allclose(centroids[1], [-40.0, -40.0])
    np.testing.assert_allclose(centroids[0], points[:30].mean(0), rtol=1e-5)
    moved = np.abs(centroids[2] / centroids[0] - 1)
    np.testing.assert_allclose(moved, 1 / 1024, rtol=1e-2)
    _, assignment = kmeans(key, points, known, first, 5)
    sizes = np.bincount(assignment, minlength=3)
    assert sizes[1] == 1 and min(sizes[0], sizes[2]) >= 5


def test_random_rows_are_different_and_the_known_come_first(key):
    known = jnp.arange(20) % 2 == 0
    rows = np.asarray(random_rows(key, known, 15))
    assert len(set(rows)) == 15 and set(rows[:10]) == set(range(0, 20, 2))
    assert not np.array_equal(rows[:10], random_rows(jax.random.fold_in(key, 1), known, 10))


def test_whiten_is_the_singular_value_decomposition():
    rng = np.random.default_rng(14)
    points = (rng.normal(size=(50, 6)) @ np.diag([5, 4, 3, 2, 1, 0.5]) @ rng.normal(size=(6, 6)) + 2).astype(np.float32)
    known = np.arange(50) < 40
    left, _, _ = np.linalg.svd(np.float64(points[known]) - points[known].mean(0), full_matrices=False)
    expected = left[:, 2::-1] / np.linalg.norm(left[:, :3], axis=1, keepdims=True)
    ours = np.asarray(whiten(jnp.asarray(points), jnp.asarray(known), 3))
    sign = np.sign(np.sum(ours[known] * expected, axis=0, keepdims=True))
    np.testing.assert_allclose(ours[known], sign * expected, rtol=1e-3, atol=1e-4)


def test_whiten_forgets_any_linear_map():
    """With all components kept, distances are invariant to affine maps of the points."""
    points, rng = cosines(15, 40, 4), np.random.default_rng(16)
    mapped = (points @ rng.normal(size=(4, 4)) + 5).astype(np.float32)
    ours, theirs = (np.asarray(whiten(jnp.asarray(x), jnp.ones(40, bool), 4)) for x in (points, mapped))
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-3)


def test_whiten_does_not_blow_up_directions_without_points():
    points = np.pad(cosines(17, 30, 2), ((0, 0), (0, 3)))
    whole, kept = (whiten(jnp.asarray(points), jnp.ones(30, bool), components) for components in (5, 2))
    np.testing.assert_allclose(whole[:, 3:], kept, atol=1e-5)


def test_kmeans_on_eight_devices_moves_no_points():
    """Devices add up their shares of the clusters; neither points nor their similarities are gathered."""
    mesh = parallel.make_mesh()
    points = jax.ShapeDtypeStruct((32768, 16), jnp.float32, sharding=parallel.batch_sharding(mesh))
    known = jax.ShapeDtypeStruct((32768,), jnp.bool, sharding=parallel.batch_sharding(mesh))
    centroids = jax.ShapeDtypeStruct((256, 16), jnp.float32, sharding=parallel.replicated(mesh))
    key = jax.eval_shape(lambda: jax.random.key(0))
    for program, inputs in (
        (functools.partial(kmeans, iterations=3), (key, points, known, centroids)),
        (functools.partial(spherical_kmeans, iterations=3), (points, centroids)),
    ):
        compiled = jax.jit(program).lower(*inputs).compile()
        moved = re.findall(r"= (.*?) (all-\w+|reduce-scatter|collective-permute)(?:-start)?\(", compiled.as_text())
        assert {kind for _, kind in moved} == {"all-reduce"}
        shapes = re.findall(r"\w\[([\d,]+)\]", " ".join(shape for shape, _ in moved))
        assert set(shapes) <= {"256", "256,16"}  # sizes and sums of the clusters
        arrays = re.findall(r"\w\[([\d,]+)\]", compiled.as_text())
        largest = max(np.prod([int(n) for n in shape.split(",")]) for shape in arrays)
        assert largest < 32768 * 256 / 8, "a device's share of all similarities"
