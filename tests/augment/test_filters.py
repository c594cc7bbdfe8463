"""Blur and Sobel against scipy's filters."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from ssl_jax import augment

IMAGE = np.random.default_rng(2).uniform(size=(14, 17, 3)).astype(np.float32)
MODES = {"zero": "constant", "edge": "nearest", "reflect": "mirror"}


@pytest.mark.parametrize("border", MODES)
@pytest.mark.parametrize("sigma, radius", [(0.4, 1), (1.3, 4), (2.0, 8)])
def test_blur_is_scipys(border, sigma, radius):
    ours = augment.join(augment.blur(augment.split(jnp.asarray(IMAGE)), sigma, radius, border))
    expected = scipy.ndimage.gaussian_filter(IMAGE, sigma, radius=radius, mode=MODES[border], axes=(0, 1))
    np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("border", MODES)
def test_no_blur_copies_pixels_exactly(border):
    ours = augment.join(augment.blur(augment.split(jnp.asarray(IMAGE)), 0.0, 3, border))
    np.testing.assert_array_equal(ours, IMAGE)


def test_edges_know_no_colour_and_no_brightness():
    """The grey image alone counts, and inside the border a constant changes nothing."""
    images = jnp.asarray(np.stack([IMAGE, IMAGE[..., ::-1], IMAGE + 3])[None])
    edges = augment.edges(images)
    assert edges.shape == (1, 3, 14, 17, 2)
    np.testing.assert_allclose(edges[0, 1], edges[0, 0], atol=1e-5)
    np.testing.assert_allclose(edges[0, 2, 1:-1, 1:-1], edges[0, 0, 1:-1, 1:-1], atol=1e-5)
    gray = IMAGE.mean(-1)
    for plane, axis in ((0, 1), (1, 0)):
        expected = -scipy.ndimage.sobel(gray, axis, mode="constant")
        np.testing.assert_allclose(edges[0, 0, ..., plane], expected, atol=1e-5)


@pytest.mark.parametrize("border", ["zero", "reflect"])
def test_sobel_is_scipys(border):
    for ours, axis in zip(augment.sobel(jnp.asarray(IMAGE[..., 0]), border), (0, 1), strict=True):
        np.testing.assert_allclose(ours, scipy.ndimage.sobel(IMAGE[..., 0], axis, mode=MODES[border]), atol=1e-5)
