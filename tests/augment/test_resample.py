"""Cropping and resizing against Pillow's float images, which are not rounded, and TensorFlow's bicubic table."""

import numpy as np
import pytest
from PIL import Image

from ssl_jax import augment

RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(size=(23, 31, 3)).astype(np.float32)
METHODS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def pillow(image, size, method, box=None):
    planes = [
        Image.fromarray(plane).resize((size, size), METHODS[method], box) for plane in np.moveaxis(image, -1, 0).copy()
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("box", [(0, 0, 23, 31), (3, 5, 7, 4), (10, 0, 13, 30)])
@pytest.mark.parametrize("size", [6, 40])
def test_crop_then_resize_is_pillows(method, box, size):
    top, left, height, width = box
    expected = pillow(IMAGE[top : top + height, left : left + width], size, method)
    ours = augment.join(augment.resample(augment.split(IMAGE), box, size, method))
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_bounds_let_the_kernel_read_beyond_a_fractional_box():
    expected = pillow(IMAGE, 9, "bicubic", box=(2.5, 1.25, 20.5, 19.75))
    box = (1.25, 2.5, 18.5, 18.0)
    ours = augment.join(augment.resample(augment.split(IMAGE), box, 9, "bicubic", bounds=(0, 0, 23, 31)))
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_same_size_copies_pixels_exactly(method, antialias):
    image = RNG.integers(0, 256, (28, 30, 3), dtype=np.uint8)
    ours = augment.join(augment.resample(augment.split(image), (4, 5, 20, 20), 20, method, antialias))
    np.testing.assert_array_equal(ours, image[4:24, 5:25].astype(np.float32))


def test_flip_mirrors_exactly():
    straight, mirrored = (
        augment.join(augment.resample(augment.split(IMAGE), (1, 2, 20, 25), 12, "bicubic", flip=flip))
        for flip in (False, True)
    )
    np.testing.assert_array_equal(mirrored, straight[:, ::-1])


def test_without_antialias_one_pixel_of_three_is_read():
    ours = augment.join(augment.resample(augment.split(IMAGE), (0, 0, 21, 30), 7, antialias=False)[:1] * 3)[..., 0]
    rows = IMAGE[1:21:3, :, 0]  # centres of the 7 rows fall on pixels 1, 4, 7, ...
    columns = np.arange(7) * 30 / 7 + 15 / 7 - 0.5
    expected = np.stack([np.interp(columns, np.arange(31), row) for row in rows])
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def tensorflow_bicubic(canvas, size):
    """The matrix [size, canvas] of TensorFlow's bicubic kernel without antialias, a table of 1,024 rows a pixel."""
    x = np.arange(2 * 1024 + 1) / 1024
    table = np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2)
    place = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(canvas / size) - np.float32(0.5)
    below = np.floor(place)
    row = np.rint((place - below) * np.float32(1024)).astype(int)
    matrix = np.zeros((size, canvas))
    for tap in (-1, 0, 1, 2):
        for i, pixel in enumerate(below.astype(int) + tap):
            if 0 <= pixel < canvas:  # beyond the border there is nothing, and the rest is weighted up
                matrix[i, pixel] = table[abs(1024 * tap - row[i])]
    return matrix / matrix.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", [(5, 7), (17, 29), (36, 33), (45, 96), (224, 100)])
@pytest.mark.parametrize("box", [(0, 0, 23, 31), (3, 5, 7, 13), (20, 1, 1, 2)])
def test_bicubic_without_antialias_is_tensorflows_at_any_size(box, size):
    top, left, height, width = box
    rows, columns = tensorflow_bicubic(height, size[0]), tensorflow_bicubic(width, size[1])
    crop = IMAGE[top : top + height, left : left + width]
    ours = augment.join(augment.resample(augment.split(IMAGE), box, size, "bicubic", antialias=False))
    np.testing.assert_allclose(ours, np.einsum("ih,hwc,jw->ijc", rows, crop, columns), atol=2e-6)
