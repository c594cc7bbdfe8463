"""Colour spaces: known colours, and the way back."""

import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax import augment

COLOURS = np.float32([[[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]]])


def run(conversion, image):
    return np.asarray(augment.join(conversion(augment.split(jnp.asarray(image)))))


def test_lab_of_known_colours():
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]  # CIE, D65, 2 degrees
    np.testing.assert_allclose(run(augment.rgb_to_lab, COLOURS)[0], expected, atol=0.05)


def test_ycbcr_of_known_colours():
    expected = [[235, 128, 128], [16, 128, 128], [81.48, 90.20, 240], [40.97, 240, 109.79]]  # ITU-R BT.601
    np.testing.assert_allclose(run(augment.rgb_to_ycbcr, COLOURS)[0], expected, atol=0.01)


@pytest.mark.parametrize("name", augment.SPACES)
def test_every_space_leads_back(name):
    dark = np.random.default_rng(0).uniform(size=(2, 500, 500, 3)).astype(np.float32) ** 4  # near the kinks as well
    image = np.concatenate([dark, np.broadcast_to(COLOURS.repeat(125, 1), dark.shape)])
    space = augment.SPACES[name]
    np.testing.assert_allclose(run(space.to_rgb, run(space.from_rgb, image)), image, atol=2e-5)


@pytest.mark.parametrize("name", augment.SPACES)
def test_values_are_of_order_one(name):
    """The range of each channel, over a grid of all colours, is about [-1, 1] or, for RGB, a few deviations."""
    grid = np.stack(np.meshgrid(*3 * [np.linspace(0, 1, 9)]), -1).reshape(1, -1, 3).astype(np.float32)
    space = augment.SPACES[name]
    values = (run(space.from_rgb, grid) - space.mean) / space.std
    assert np.abs(values).max() < 3 and (np.ptp(values, axis=(0, 1)) > 1).all()
