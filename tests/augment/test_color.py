"""Colour operations against the standard library, numpy and their invariances."""

import colorsys
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax import augment

IMAGE = np.random.default_rng(1).uniform(size=(5, 6, 3)).astype(np.float32)
GRAY = np.repeat(IMAGE[..., :1], 3, axis=-1)
LUMA = np.float32([0.2989, 0.587, 0.114])
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def run(operation, image, *arguments):
    return np.asarray(augment.join(operation(augment.split(jnp.asarray(image)), *arguments)))


def per_pixel(function, image):
    return np.apply_along_axis(lambda rgb: function(*map(float, rgb)), -1, image)


def test_hsv_is_that_of_the_standard_library():
    image = np.concatenate(
        [IMAGE, GRAY, np.eye(3, dtype=np.float32)[None, [0, 1, 2, 0, 1, 2]], np.zeros((1, 6, 3), np.float32)]
    )
    hsv = run(augment.rgb_to_hsv, image)
    np.testing.assert_allclose(hsv, per_pixel(colorsys.rgb_to_hsv, image), atol=1e-6)
    np.testing.assert_allclose(run(augment.hsv_to_rgb, hsv), image, atol=1e-6)


@pytest.mark.parametrize("turns", [-0.5, -0.1, 0.0, 0.2, 0.5])
def test_hue_turns_the_circle(turns):
    def turned(r, g, b):
        h, s, v = colorsys.rgb_to_hsv(r, g, b)
        return colorsys.hsv_to_rgb((h + turns) % 1, s, v)

    np.testing.assert_allclose(run(augment.SEMANTICS["byol"][HUE], IMAGE, turns), per_pixel(turned, IMAGE), atol=1e-6)


def test_saturation_in_hsv_stops_at_one():
    def saturated(r, g, b):
        h, s, v = colorsys.rgb_to_hsv(r, g, b)
        return colorsys.hsv_to_rgb(h, min(1.0, 1.7 * s), v)

    np.testing.assert_allclose(
        run(augment.SEMANTICS["simclr"][SATURATION], IMAGE, 1.7), per_pixel(saturated, IMAGE), atol=1e-6
    )


def test_what_each_semantics_keeps():
    torchvision, byol = augment.SEMANTICS["torchvision"], augment.SEMANTICS["byol"]
    np.testing.assert_allclose(run(byol[CONTRAST], IMAGE, 0.3).mean((0, 1)), IMAGE.mean((0, 1)), rtol=1e-6)
    np.testing.assert_allclose((run(torchvision[CONTRAST], IMAGE, 0.3) @ LUMA).mean(), (IMAGE @ LUMA).mean(), rtol=1e-4)
    np.testing.assert_allclose(run(torchvision[SATURATION], IMAGE, 1.4) @ LUMA, IMAGE @ LUMA, rtol=1e-3)
    np.testing.assert_allclose(run(byol[SATURATION], IMAGE, 0.4).max(-1), IMAGE.max(-1), rtol=1e-6)


@pytest.mark.parametrize("semantics", augment.SEMANTICS)
def test_neutral_factors_change_nothing_and_gray_stays_gray(semantics):
    operations = augment.SEMANTICS[semantics]
    neutral = [0.0 if semantics == "byol" else 1.0, 1.0, 1.0, 0.0]
    for operation, factor in zip(operations, neutral, strict=True):
        np.testing.assert_allclose(run(operation, IMAGE, factor), IMAGE, atol=1e-6)
    for operation in operations:
        changed = run(operation, GRAY, 0.3)
        np.testing.assert_allclose(changed, np.repeat(changed[..., :1], 3, axis=-1), atol=1e-3)


def test_jitter_applies_each_operation_at_its_place_and_clips():
    operations = augment.SEMANTICS["simclr"]
    factors = jnp.array([1.6, 0.5, 1.8, 0.3])
    orders = jnp.array(list(itertools.permutations(range(4))))
    image = augment.split(jnp.asarray(IMAGE))
    ours = augment.join(jax.vmap(lambda order: augment.jitter(image, order, factors, operations))(orders))
    for order, got in zip(orders.tolist(), ours, strict=True):
        expected = IMAGE
        for k in order:
            expected = np.clip(run(operations[k], expected, factors[k]), 0, 1)
        np.testing.assert_allclose(got, expected, atol=2e-6)


def test_solarize_inverts_from_the_threshold_on():
    values = np.float32([0.0, 0.2, 0.5, 0.8, 1.0])
    image = np.repeat(values[None, :, None], 3, axis=-1)
    np.testing.assert_allclose(run(augment.solarize, image)[0, :, 0], [0.0, 0.2, 0.5, 0.2, 0.0], atol=1e-7)
    np.testing.assert_allclose(run(augment.solarize, image, 0.75)[0, :, 0], [0.0, 0.2, 0.5, 0.2, 0.0], atol=1e-7)
    np.testing.assert_allclose(run(augment.solarize, image, 0.9)[0, :, 0], [0.0, 0.2, 0.5, 0.8, 0.0], atol=1e-7)


def test_grayscale_and_normalize():
    np.testing.assert_allclose(
        run(augment.grayscale, IMAGE), np.repeat((IMAGE @ LUMA)[..., None], 3, axis=-1), rtol=1e-6
    )
    mean, std = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    np.testing.assert_allclose(run(augment.normalize, IMAGE, mean, std), (IMAGE - mean) / std, rtol=1e-5)
