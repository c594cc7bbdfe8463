"""Corruptions do what they say, more of it at each severity, and stay in range."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ssl_jax import augment
from ssl_jax.evaluate.corruptions import CORRUPTIONS, SEVERITIES, corrupt, jpeg, resolution

SIDE = 24


@pytest.fixture(scope="module")
def image():
    """A smooth colour picture with an edge, in whole levels."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    planes = np.stack([0.2 + 0.6 * x, 0.8 - 0.5 * y, 0.3 + 0.3 * (x > 0.5)], axis=-1)
    return np.round(255 * planes) / 255


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_severer_corruption_takes_the_image_further_away(name, image):
    images = jnp.asarray(np.stack([image, image]), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 2)
    levels = jnp.array(SEVERITIES)
    found = np.asarray(jax.jit(jax.vmap(lambda level: corrupt(name, images, level, keys)))(levels))
    assert found.min() >= 0 and found.max() <= 1
    distance = np.abs(found - np.asarray(images)[None]).mean((1, 2, 3, 4))
    if name == "saturation":  # the first two take colour away, the others add some
        assert distance[1] > distance[0] > 0 and np.all(np.diff(distance[2:]) > 0)
    else:
        assert distance[0] > 0 and np.all(np.diff(distance) > 0)
    assert name not in ("gaussian_noise", "impulse_noise") or np.any(found[:, 0] != found[:, 1])


@pytest.mark.parametrize("quality", [10, 75])
def test_jpeg_is_that_of_a_codec(quality, image):
    file = io.BytesIO()
    Image.fromarray(np.round(255 * image).astype(np.uint8)).save(file, "jpeg", quality=quality, subsampling=0)
    theirs = np.asarray(Image.open(file), int)
    planes = augment.split(jnp.asarray(image, jnp.float32))
    ours = augment.join(jpeg(planes, jnp.float32(quality), jax.random.key(0)))
    error = np.abs(np.clip(255 * np.asarray(ours), 0, 255) - theirs)
    assert error.mean() < 0.5 and error.max() <= 3  # the codec works in whole numbers


def test_half_a_resolution_is_the_mean_of_squares_of_four(image):
    ours = augment.join(resolution(augment.split(jnp.asarray(image)), jnp.float32(0.5), jax.random.key(0)))
    means = image.reshape(SIDE // 2, 2, SIDE // 2, 2, 3).mean((1, 3))
    np.testing.assert_allclose(ours, means.repeat(2, 0).repeat(2, 1), atol=1e-6)
