"""The distributions that 10,000 transformations are drawn from."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from ssl_jax import augment
from ssl_jax.augment import Blur, Crop, Gray, Jitter, Solarize

N = 10_000
VALID = (3, 5, 40, 50)  # top, left, height, width on a larger canvas


def draws(view):
    uniform = jax.random.uniform(jax.random.key(7), (N, view.numbers))
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda u: view.draw(u, jnp.array(VALID))))(uniform))


@pytest.fixture(scope="module")
def drawn():
    then = (Jitter(0.8, hue=0.2), Gray(0.2), Blur(0.3, sigma=(0.1, 2.0)), Solarize(0.1))
    return draws(augment.View(flip=0.5, then=then))


def assert_probability(happened, probability):
    assert abs(happened.mean() - probability) < 4 * np.sqrt(probability * (1 - probability) / N)


def assert_uniform(values, low, high):
    assert scipy.stats.kstest(values, scipy.stats.uniform(low, high - low).cdf).pvalue > 1e-3


def decisions(drawn):
    """Which operations happen, in the order of the view."""
    (_, factors), (gray, _), sigma, (solarize, _) = drawn.then
    return np.any(factors != np.float32([1, 1, 1, 0]), axis=1), gray, sigma > 0, solarize


def test_probabilities(drawn):
    assert_probability(drawn.flip, 0.5)
    for happens, probability in zip(decisions(drawn), (0.8, 0.2, 0.3, 0.1), strict=True):
        assert_probability(happens, probability)


def test_decisions_are_independent(drawn):
    correlation = np.corrcoef(np.stack([drawn.flip, *decisions(drawn)])) - np.eye(5)
    assert np.abs(correlation).max() < 4 / np.sqrt(N)


def test_factors_and_sigma_are_uniform(drawn):
    (_, factors), _, sigma, _ = drawn.then
    factors = factors[factors[:, 0] != 1]
    for k in range(3):
        assert_uniform(factors[:, k], 0.6, 1.4)
    assert_uniform(factors[:, 3], -0.2, 0.2)
    assert_uniform(sigma[sigma > 0], 0.1, 2.0)


def test_every_order_is_as_likely(drawn):
    drawn_order, _ = drawn.then[0]
    counts = [np.all(drawn_order == order, axis=1).sum() for order in itertools.permutations(range(4))]
    assert sum(counts) == N
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_byol_brightness_is_a_summand_and_large_strengths_stop_at_zero():
    ((_, factors),) = draws(augment.View(then=(Jitter(semantics="byol", brightness=0.4, contrast=1.5),))).then
    assert_uniform(factors[:, 0], -0.4, 0.4)
    assert_uniform(factors[:, 1], 0.0, 2.5)


def test_operations_without_strength_drop_out():
    ((order, factors),) = draws(augment.View(then=(Jitter(saturation=0.0, hue=0.0),))).then
    assert order.shape == factors.shape == (N, 2)
    assert_probability(order[:, 0] == 0, 0.5)


def simulated_boxes(area, ratio, height, width):
    """BYOL's crop: one draw, clamped to the image."""
    rng = np.random.default_rng(3)
    pixels = height * width * rng.uniform(*area, N)
    aspect = np.exp(rng.uniform(*np.log(ratio), N))
    return np.minimum(np.sqrt(pixels / aspect).round(), height), np.minimum(np.sqrt(pixels * aspect).round(), width)


@pytest.mark.parametrize("area", [(0.08, 1.0), (0.2, 0.5)])
def test_crops(area):
    top, left, height, width = draws(augment.View(Crop(area))).box.T
    expected = simulated_boxes(area, (3 / 4, 4 / 3), *VALID[2:])
    for ours, theirs in ((height * width, expected[0] * expected[1]), (height / width, expected[0] / expected[1])):
        assert scipy.stats.ks_2samp(ours, theirs).pvalue > 1e-3
    assert np.all((top >= 3) & (top + height <= 43) & (left >= 5) & (left + width <= 55))
    inside = height < 40  # where there is room, the place is uniform: the centre of its pixel in the range
    assert_uniform(
        ((top[inside] - 3 + np.random.default_rng(4).uniform(size=inside.sum())) / (41 - height[inside])), 0, 1
    )


def test_a_whole_crop_is_the_whole_image():
    assert np.all(draws(augment.View(Crop((1.0, 1.0), (50 / 40, 50 / 40)))).box == VALID)
