"""Every protocol on random features against a numpy oracle or a closed form."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from ssl_jax import parallel
from ssl_jax.evaluate import confidence, health, sweep
from ssl_jax.evaluate.features import Features
from ssl_jax.evaluate.knn import KNN, weighted_knn
from ssl_jax.evaluate.logistic import draw, minimize
from ssl_jax.evaluate.result import classified
from ssl_jax.evaluate.retrieval import Retrieval, average_precision
from ssl_jax.evaluate.sweep import Linear, Recipe

CLASSES = tuple("abc")


class Given(NamedTuple):
    """Features as the subject of a protocol."""

    pair: tuple[Features, Any]
    mesh: Any = None
    classes: tuple[str, ...] = CLASSES
    chosen: str = "backbone"

    def features(self, layer=None):
        return self.pair

    def compact(self, x):
        return x


def features(count: int, seed: int, noise: float = 1.0, padding: int = 3, dim: int = 6) -> Features:
    """Gaussian classes, with rows of padding at the end."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, len(CLASSES), count)
    x = np.random.default_rng(9).normal(size=(len(CLASSES), dim))[label] + noise * rng.normal(size=(count, dim))
    rows = np.pad(x, ((0, padding), (0, 0)), constant_values=9).astype(np.float32)
    position = np.pad(np.arange(count), (0, padding), constant_values=-1)
    return Features(rows, np.pad(label, (0, padding), constant_values=-1).astype(np.int32), position.astype(np.int32))


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_every_vote_is_that_of_k_nn_with_its_settings():
    bank, test = features(40, 0), features(30, 1)
    found = KNN(k=(3, 7), temperature=(0.07, 0.5))(Given((bank, test)))
    for row in found.numbers["rows"]:
        votes = weighted_knn(bank.x, bank.label, test.x, 3, row["k"], row["temperature"], bank.position >= 0)
        assert row["top1"] == 100 * np.mean(np.asarray(votes)[:30] == test.label[:30])
    assert found.numbers["top1"] == found.numbers["rows"][0]["top1"] == 100 * found.scores.mean()


@pytest.mark.parametrize("devices", [1, 8])
def test_with_one_split_an_image_is_no_neighbour_of_its_own(devices):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    bank = features(37, 0, noise=2)
    placed = jax.device_put(bank, parallel.batch_sharding(mesh))
    found = KNN(k=(5,))(Given((placed, None), mesh))
    x, label = unit(bank.x[:37]), bank.label[:37]
    cosine = x @ x.T - 9 * np.eye(37)
    votes = np.zeros((37, 3))
    for i, row in enumerate(cosine):
        for j in np.argsort(-row)[:5]:
            votes[i, label[j]] += np.exp(row[j] / 0.07)
    np.testing.assert_array_equal(found.scores, votes.argmax(1) == label)


def test_images_count_in_the_order_of_their_sample_and_only_with_a_label():
    test = Features(np.zeros((4, 1)), np.array([0, -1, 1, 2]), np.array([2, 1, 0, -1]))
    found = classified(np.array([0, 0, 2, 2]), test)
    np.testing.assert_array_equal(found.scores, [False, True])
    assert (found.numbers["top1"], found.numbers["images"]) == (50, 2)


def test_points_of_a_grid_are_those_of_sgd_one_by_one():
    """Momentum, Nesterov, a cosine, weight decay and batches, in numpy."""
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(2, 1, 21, 4)).astype(np.float32), rng.integers(0, 3, 21)
    rows = np.arange(20)[::-1].copy()
    points = np.array([[0.5, 0.0], [2.0, 0.1]], np.float32)
    recipe = Recipe((), epochs=2, batch_size=8, optimizer=sweep.NESTEROV)
    found = sweep.train(jnp.asarray(x), jnp.asarray(labels), jnp.asarray(rows), jnp.asarray(points), recipe, 3)
    for layer in range(2):
        for number, (rate, decay) in enumerate(points):
            params = [np.zeros((4, 3)), np.zeros(3)]
            momenta = [0.0, 0.0]
            for step in range(4):
                key = jax.random.fold_in(jax.random.key(0), step // 2)
                batch = np.asarray(jax.random.permutation(key, rows))[step % 2 * 8 :][:8]
                seen = x[layer, 0, batch]
                logits = seen @ params[0] + params[1]
                p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
                error = (p - np.eye(3)[labels[batch]]) / 8
                slopes = [seen.T @ error + decay * params[0], error.sum(0)]
                momenta = [0.9 * m + g for m, g in zip(momenta, slopes, strict=True)]
                now = rate * 8 / 256 * (1 + np.cos(np.pi * step / 4)) / 2
                params = [w - now * (g + 0.9 * m) for w, g, m in zip(params, slopes, momenta, strict=True)]
            np.testing.assert_allclose(found["kernel"][layer, number], params[0], atol=1e-5)
            np.testing.assert_allclose(found["bias"][layer, number], params[1], atol=1e-5)


def test_the_best_point_of_a_grid_is_chosen_by_training_images_and_tested_once():
    bank, test = features(200, 0, noise=0.5), features(60, 1, noise=0.5)
    protocol = Linear(rates=(1.0,), decays=(1e4, 0.0), epochs=10)  # the first diverges
    found = protocol(Given((bank, test))).numbers
    assert (found["learning_rate"], found["weight_decay"], found["points"]) == (1.0, 0.0, 2)
    assert found["top1"] > 90
    wrong = test._replace(label=np.where(test.label >= 0, (test.label + 1) % 3, -1))
    other = protocol(Given((bank, wrong))).numbers
    assert (other["weight_decay"], other["held_out_top1"]) == (0.0, found["held_out_top1"])
    assert other["top1"] < 10


@pytest.mark.parametrize("name", ["moco", "simsiam", "mae"])  # steps; LARC; LARS with a warm-up
def test_recipes_of_papers_learn(name):
    bank = features(60, 0, noise=0.3, padding=0)
    found = Linear(recipe=name)(Given((bank, bank))).numbers
    assert found["top1"] > 90


def test_l_bfgs_reaches_the_minimum_that_scipy_finds():
    rng = np.random.default_rng(0)
    x, labels, strength = rng.normal(size=(2, 15, 5)).astype(np.float32), rng.integers(0, 3, (2, 15)), 0.05
    found = np.asarray(minimize(jnp.asarray(x), jnp.asarray(labels), 3, strength), np.float64)
    for ours, some, y in zip(found, x.astype(np.float64), labels, strict=True):

        def objective(kernel, some=some, y=y):
            logits = some @ kernel.reshape(5, 3)
            return np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(15), y]) + strength / 2 * kernel @ kernel

        best = scipy.optimize.minimize(objective, np.zeros(15)).fun
        assert best - 1e-6 < objective(ours.ravel()) < best + 1e-5


def test_the_few_are_as_many_of_each_class():
    labels = np.array([0, 0, 0, 1, 1, 1, -1, 2, 2])
    drawn = draw(labels, 2, seed=1)
    assert len(set(drawn)) == 6
    np.testing.assert_array_equal(labels[drawn], [0, 0, 1, 1, 2, 2])


def test_retrieval_is_that_of_its_definition():
    test = features(41, 3, noise=1.5)
    found = Retrieval(ranks=(1, 3))(Given((test, test))).numbers
    x, label = unit(test.x[:41]), test.label[:41]
    cosine = x @ x.T - 9 * np.eye(41)
    precision, recall = [], {1: [], 3: []}
    for row, own in zip(cosine, label, strict=True):
        order, relevant = np.argsort(-row), np.sum(label == own) - 1
        hits = label[order] == own
        precision.append(sum(hits[: i + 1].mean() * hits[i] for i in range(relevant)) / relevant)
        for k, values in recall.items():
            values.append(hits[:k].any())
    assert found["map_at_r"] == pytest.approx(100 * np.mean(precision), rel=1e-6)
    assert [found["recall1"], found["recall3"]] == pytest.approx([100 * np.mean(recall[k]) for k in (1, 3)])
    assert average_precision(np.array([[True, False, True, True]]), np.array([3])) == pytest.approx((1 + 2 / 3) / 3)


def test_means_of_cosines_are_those_of_all_pairs():
    one = features(25, 4)
    x, label = unit(one.x[:25]), one.label[:25]
    found = health.cohesion(x, label, CLASSES)
    cosine, same = x @ x.T, label[:, None] == label
    for number, name in enumerate(CLASSES):
        own = (label == number)[:, None] & same & ~np.eye(25, dtype=bool)
        assert found["classes"][name] == pytest.approx(cosine[own].mean(), rel=1e-5)
    assert found["separation"] == pytest.approx(cosine[~same].mean(), rel=1e-4)
    np.testing.assert_allclose(health.spectrum(jnp.diag(jnp.array([2.0, 2.0]))), [1, 0], atol=1e-6)


def test_an_interval_is_that_of_the_binomial_and_of_drawn_images():
    right = np.arange(400) < 300
    low, high = confidence.interval(right)
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    np.testing.assert_allclose([low, high], [0.75 - half, 0.75 + half], atol=0.005)
    values = np.random.default_rng(0).exponential(size=50)
    means = np.random.default_rng(1).choice(values, (20_000, 50)).mean(1)
    np.testing.assert_allclose(confidence.interval(values), np.quantile(means, [0.025, 0.975]), atol=0.03)


def test_pairs_tell_a_small_difference_from_noise_where_two_intervals_overlap():
    right = np.random.default_rng(0).random(1000) < 0.7
    better = right.copy()
    better[np.flatnonzero(~right)[:12]] = True  # twelve more are right, no other image changes
    assert confidence.difference(better, right).is_real
    assert confidence.interval(better)[0] < right.mean()
    shuffled = np.random.default_rng(1).permutation(better)
    assert not confidence.difference(shuffled, right).is_real
