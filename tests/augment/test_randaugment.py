"""RandAugment against Pillow, and the distribution its operations are drawn from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from PIL import Image, ImageEnhance, ImageOps

from ssl_jax import augment
from ssl_jax.augment import randaugment as ra

SIDE = 24
SMOOTH = np.kron(np.random.default_rng(3).integers(0, 256, (6, 6, 3)), np.ones((4, 4, 1)))
PIXELS = np.uint8(0.6 * SMOOTH + np.random.default_rng(4).integers(0, 60, (SIDE, SIDE, 3)))  # of limited contrast
FILL = (10, 200, 90)
OPERATIONS = {operation.__name__: i for i, operation in enumerate(ra.COLOURS + ra.MOVES)}


def ours(name, level, sign=1.0, pixels=PIXELS):
    """What one operation makes of the image, in levels of 0 to 255."""
    chosen = ra.Chosen(jnp.array([OPERATIONS[name]]), jnp.array([float(level)]), jnp.array([sign]))
    planes = augment.split(jnp.asarray(np.float32(pixels) / np.float32(255)))
    fill = [value / 255 for value in FILL]
    return 255 * np.asarray(augment.join(jax.jit(ra.randaugment, static_argnums=2)(planes, chosen, tuple(fill))))


def affine(image, *matrix):
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=FILL)


# Pillow's version of each operation at a level, and by how many levels of 255 rounding may make them differ.
PILLOW = {
    "autocontrast": (lambda image, level: ImageOps.autocontrast(image), 1.01),
    "equalize": (lambda image, level: ImageOps.equalize(image), 0.01),
    "invert": (lambda image, level: ImageOps.invert(image), 0.01),
    "posterize": (lambda image, level: ImageOps.posterize(image, int(4 * level)), 0.01),
    "solarize_from": (lambda image, level: ImageOps.solarize(image, int(256 * level)), 0.01),
    "solarize_add": (
        lambda image, level: image.point(lambda x: min(255, x + int(110 * level)) if x < 128 else x),
        0.01,
    ),
    "saturation": (lambda image, level: ImageEnhance.Color(image).enhance(0.1 + 1.8 * level), 2.0),
    "contrast": (lambda image, level: ImageEnhance.Contrast(image).enhance(0.1 + 1.8 * level), 2.0),
    "brightness": (lambda image, level: ImageEnhance.Brightness(image).enhance(0.1 + 1.8 * level), 1.01),
    "sharpness": (lambda image, level: ImageEnhance.Sharpness(image).enhance(0.1 + 1.8 * level), 2.0),
    "rotate": (lambda image, level: image.rotate(30 * level, Image.Resampling.BILINEAR, fillcolor=FILL), 1.01),
    "shear_x": (lambda image, level: affine(image, 1, 0.3 * level, 0, 0, 1, 0), 1.01),
    "shear_y": (lambda image, level: affine(image, 1, 0, 0, 0.3 * level, 1, 0), 1.01),
    "translate_x": (lambda image, level: affine(image, 1, 0, 0.45 * SIDE * level, 0, 1, 0), 1.01),
    "translate_y": (lambda image, level: affine(image, 1, 0, 0, 0, 1, 0.45 * SIDE * level), 1.01),
}


def test_every_operation_is_compared_with_pillow():
    assert list(PILLOW) == list(OPERATIONS) and len(OPERATIONS) == ra.OPERATIONS


@pytest.mark.parametrize("level", [0.3, 0.77, 1.0])
@pytest.mark.parametrize("name", PILLOW)
def test_operations_are_those_of_pillow(name, level):
    pillow, tolerance = PILLOW[name]
    expected = np.asarray(pillow(Image.fromarray(PIXELS), level), np.float32)
    np.testing.assert_allclose(ours(name, level), expected, atol=tolerance)
    if name in ("rotate", "shear_x", "shear_y", "translate_x", "translate_y"):
        back = np.asarray(pillow(Image.fromarray(PIXELS), -level), np.float32)
        np.testing.assert_allclose(ours(name, level, sign=-1.0), back, atol=tolerance)


@pytest.mark.parametrize("name", ["autocontrast", "equalize"])
def test_a_constant_image_has_no_contrast_to_stretch(name):
    constant = np.full((SIDE, SIDE, 3), 77, np.uint8)
    np.testing.assert_allclose(ours(name, 1.0, pixels=constant), constant, atol=1e-3)


def test_operations_follow_each_other_and_none_changes_nothing():
    planes = augment.split(jnp.asarray(np.float32(PIXELS) / np.float32(255)))

    def run(*operations):
        chosen = ra.Chosen(jnp.array(operations), jnp.full(len(operations), 0.5), jnp.ones(len(operations)))
        return np.asarray(augment.join(ra.randaugment(planes, chosen, (0.0, 0.0, 0.0))))

    none, invert, brightness = ra.OPERATIONS, OPERATIONS["invert"], OPERATIONS["brightness"]
    np.testing.assert_array_equal(run(none, none), augment.join(planes))
    np.testing.assert_allclose(run(none, invert), 1 - augment.join(planes), atol=1e-6)
    np.testing.assert_allclose(run(invert, brightness), 0.0 + (1 - augment.join(planes)), atol=1e-6)
    assert np.abs(run(brightness, none) - augment.join(planes)).max() < 1e-6  # at half its level the factor is 1
    moved = run(OPERATIONS["translate_x"], invert)
    np.testing.assert_allclose(moved[:, -5:], 1.0)  # what the move left black is inverted after it


def test_operations_levels_and_signs_are_drawn_as_published():
    n = 10_000
    operations = augment.RandAugment(0.5, magnitude=8.0)
    uniform = jax.random.uniform(jax.random.key(5), (n, operations.numbers))
    operation, level, sign = map(np.asarray, jax.vmap(operations.draw)(uniform))
    assert operation.shape == level.shape == sign.shape == (n, 2)
    for k in range(2):
        happened = operation[:, k] < ra.OPERATIONS
        assert abs(happened.mean() - 0.5) < 4 * 0.5 / np.sqrt(n)
        assert scipy.stats.chisquare(np.bincount(operation[happened, k], minlength=ra.OPERATIONS)).pvalue > 1e-3
        assert scipy.stats.kstest(10 * level[:, k], scipy.stats.norm(8.0, 0.5).cdf).pvalue > 1e-3
        assert abs((sign[:, k] > 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(n)
    both = np.stack([operation[:, 0], operation[:, 1], level[:, 0], level[:, 1], sign[:, 0], sign[:, 1]])
    assert np.abs(np.corrcoef(both) - np.eye(6)).max() < 4 / np.sqrt(n)


def test_the_strongest_magnitude_is_ten():
    operations = augment.RandAugment()
    level = jax.vmap(operations.draw)(jax.random.uniform(jax.random.key(5), (1000, operations.numbers))).level
    assert float(level.max()) == 1.0 and abs(float((level == 1.0).mean()) - 0.5) < 0.06
