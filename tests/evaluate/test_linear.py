"""The linear probe finds the minimum of its objective, and its accuracy is at chance on features without classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from ssl_jax import parallel
from ssl_jax.evaluate import linear
from ssl_jax.evaluate.features import Features
from ssl_jax.evaluate.linear import fit, linear_probe, principal_components, raw_baseline, standardize


def draw(n: int, d: int = 20, classes: int = 4, noise: float = 1.0, seed: int = 0):
    """Gaussian classes in strongly correlated features of very different scales."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(classes, d))
    mixing = np.random.default_rng(8).normal(size=(d, d)) * np.logspace(-3, 2, d)
    labels = rng.integers(0, classes, n)
    return ((centres[labels] + noise * rng.normal(size=(n, d))) @ mixing).astype(np.float32), labels


@pytest.mark.parametrize("strength", [1e-3, 1e-1])
def test_fit_reaches_the_minimum_that_scipy_finds(strength):
    features, labels = draw(300)
    x, _ = standardize(jnp.asarray(features), jnp.asarray(features), labels >= 0)
    x64 = np.asarray(x, np.float64)

    def objective(kernel):
        kernel = kernel.reshape(x.shape[1], 4)
        logits = x64 @ kernel
        peak = logits.max(1, keepdims=True)
        log_p = logits - peak - np.log(np.exp(logits - peak).sum(1, keepdims=True))
        error = (np.exp(log_p) - np.eye(4)[labels]) / len(x64)
        value = -log_p[np.arange(len(labels)), labels].mean() + strength / 2 * (kernel**2).sum()
        return value, (x64.T @ error + strength * kernel).ravel()

    best = scipy.optimize.minimize(objective, np.zeros(x.shape[1] * 4), jac=True, method="L-BFGS-B", tol=1e-12)
    ours = objective(np.asarray(fit(x, jnp.asarray(labels), 4, strength), np.float64).ravel())[0]
    assert best.fun <= ours + 1e-9
    assert ours < 1.01 * best.fun


def test_probe_comes_near_the_bayes_classifier():
    train, test = draw(2000), draw(1000, seed=1)
    centres = np.random.default_rng(9).normal(size=(4, 20))
    mixing = np.random.default_rng(8).normal(size=(20, 20)) * np.logspace(-3, 2, 20)
    original = test[0] @ np.linalg.inv(mixing)
    bayes = 100 * np.mean(((original[:, None] - centres[None]) ** 2).sum(-1).argmin(1) == test[1])
    assert linear_probe(*train, *test, 4) > bayes - 1.5


def test_probe_of_noise_is_at_chance_however_many_features_could_be_overfitted():
    rng = np.random.default_rng(0)
    train, test = ((rng.normal(size=(n, 400)), rng.integers(0, 4, n)) for n in (500, 2000))
    assert 21 < linear_probe(*train, *test, 4) < 29


def test_strength_is_chosen_by_the_training_features_alone(monkeypatch):
    chosen = []

    def spy(x, labels, classes, strength):
        chosen.append(strength)
        return fit(x, labels, classes, strength)

    monkeypatch.setattr(linear, "fit", spy)
    noisy, clean, test = draw(200, noise=6), draw(2000, noise=0.5), draw(400, seed=1)
    wrong = test[0], (test[1] + 1) % 4
    last = {}
    for name, train, asked in (("noisy", noisy, test), ("same", noisy, wrong), ("clean", clean, test)):
        linear_probe(*train, *asked, 4)
        last[name] = chosen[-1]  # of the fit to all training features
    assert last["same"] == last["noisy"]
    assert last["noisy"] != last["clean"]


def test_scales_offsets_dead_features_and_half_precision_do_not_matter():
    train, test = draw(500), draw(300, seed=1)
    plain = linear_probe(*train, *test, 4)

    def change(features):
        return np.concatenate([1e4 * features + 7, np.full((len(features), 3), 5.0, np.float32)], 1)

    assert abs(linear_probe(change(train[0]), train[1], change(test[0]), test[1], 4) - plain) <= 1
    half = [jnp.asarray(x).astype(jnp.bfloat16) for x in (train[0], test[0])]
    assert abs(linear_probe(half[0], train[1], half[1], test[1], 4) - plain) < 5


def test_classes_in_order_are_no_trap():
    features, labels = draw(400)
    order = np.argsort(labels, kind="stable")
    assert linear_probe(features[order], labels[order], *draw(300, seed=1), 4) > 80


def test_principal_components_are_those_of_an_svd():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 60)) @ rng.normal(size=(60, 60)) * np.logspace(0, -2, 60)
    x = (x - x.mean(0)).astype(np.float32)
    basis = np.asarray(principal_components(jnp.asarray(x), 8))
    wanted = np.linalg.svd(x, full_matrices=False)[2][:8]
    np.testing.assert_allclose(np.abs(wanted @ basis), np.eye(8), atol=1e-3)


def test_raw_baseline_tells_images_apart_by_their_pixels():
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 255, (3, 6, 6, 3))
    labels = {name: rng.integers(0, 3, n) for name, n in (("train", 90), ("test", 40))}
    images = {
        name: np.clip(patterns[y] + rng.normal(0, 60, (len(y), 6, 6, 3)), 0, 255).astype(np.uint8)
        for name, y in labels.items()
    }
    train, test = (features(images[name].reshape(len(y), -1), y) for name, y in labels.items())
    assert raw_baseline(train, test, 3) == (100.0, 100.0)
    brighter = (one._replace(x=one.x.astype(jnp.float32) * 0.01 + 3) for one in (train, test))
    assert raw_baseline(*brighter, 3) == (100.0, 100.0)


def features(x, labels, padding=0):
    """Features with rows of padding at their end, far from everything."""
    x, labels = np.pad(x, ((0, padding), (0, 0)), constant_values=99), np.pad(labels, (0, padding), constant_values=-1)
    index = np.where(np.arange(len(x)) < len(x) - padding, np.arange(len(x)), -1)
    return Features(*map(jnp.asarray, (x, labels.astype(np.int32), index.astype(np.int32))))


def test_rows_without_a_label_take_no_part():
    (x, y), test = draw(400), draw(300, seed=1)
    padded = np.concatenate([x, np.full((50, x.shape[1]), 1e3, np.float32)]), np.concatenate([y, np.full(50, -1)])
    assert linear_probe(*padded, *test, 4) == linear_probe(x, y, *test, 4)
    kernels = (fit(jnp.asarray(x), jnp.asarray(y), 4, 0.1) for x, y in (padded, (x, y)))
    np.testing.assert_allclose(*kernels, rtol=1e-3, atol=1e-5)


def test_devices_that_share_the_rows_fit_the_same():
    mesh = parallel.make_mesh()
    train, test = (features(*draw(n, noise=2.0, seed=n), padding) for n, padding in ((380, 20), (330, 6)))
    expected = [linear_probe(train.x, train.label, test.x, test.label, 4), *raw_baseline(train, test, 4)]
    train, test = jax.device_put((train, test), parallel.batch_sharding(mesh))
    labels = parallel.gather((train.label, test.label))
    ours = [linear_probe(train.x, labels[0], test.x, labels[1], 4), *raw_baseline(train, test, 4, mesh)]
    np.testing.assert_allclose(ours, expected, atol=1.3)  # four images in 330
