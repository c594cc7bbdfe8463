"""What every operation keeps, and those that move pixels or take them away against numpy, scipy and Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from PIL import Image

from ssl_jax import augment
from ssl_jax.augment import ColorDrop, Cutout, Elastic, GaussianNoise, PadAndShift, Rotate90, Shear, Sobel
from ssl_jax.augment import randaugment as ra

N, SIDE = 2000, 16
IMAGE = np.random.default_rng(6).uniform(0.1, 0.9, size=(SIDE, SIDE, 3)).astype(np.float32)
PLANES = augment.split(jnp.asarray(IMAGE))
FILL = (0.2, 0.5, 0.7)


def run(operation, n=N, seed=0, image=PLANES):
    """What was drawn and made of one image, n times."""

    def one(uniform):
        drawn = operation.draw(uniform)
        return drawn, augment.join(operation(image, drawn, FILL))

    uniform = jax.random.uniform(jax.random.key(seed), (n, operation.numbers))
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(uniform))


def apply(operation, chosen):
    """The image with something chosen done to it."""
    return np.asarray(augment.join(operation(PLANES, (jnp.bool_(True), chosen), FILL)))


@pytest.mark.parametrize("name", augment.OPERATIONS)
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_a_probability_is_how_often_an_image_is_changed(name, p):
    _, images = run(augment.OPERATIONS[name](p), n=400)
    changed = np.abs(images - IMAGE).max((1, 2, 3)) > 1e-3
    expected = 1 - (1 - p) ** 2 if name == "randaugment" else p  # either of its two
    # A shift may be by no pixel, a blur too narrow to be seen, and an operation of RandAugment of no effect here.
    idle = {"shift": 1 / 81, "blur": 0.08, "randaugment": 0.15}.get(name, 0.0)
    noise = 4 * np.sqrt(expected * (1 - expected) / 400)
    assert expected * (1 - 2 * idle) - noise <= changed.mean() <= expected + noise
    assert images.min() >= 0 and images.max() <= 1


@pytest.mark.parametrize("name", [name for name in augment.OPERATIONS if name != "randaugment"])
def test_the_salience_follows_where_pixels_move(name):
    """Of a map with a ramp: it is moved as the image is, and left alone by what moves nothing."""
    operation = augment.OPERATIONS[name]()
    ramp = jnp.asarray(np.outer(np.linspace(0.2, 0.8, SIDE), np.linspace(0.4, 0.8, SIDE)).astype(np.float32))

    def both(uniform):
        drawn = operation.draw(uniform)
        return operation.follow((ramp,) * 3, drawn)[0], operation((ramp,) * 3, drawn)[0]

    follows, moved = jax.vmap(both)(jax.random.uniform(jax.random.key(3), (50, operation.numbers)))
    if operation.moves:
        np.testing.assert_array_equal(follows, moved)
    else:
        np.testing.assert_array_equal(follows, jnp.broadcast_to(ramp, follows.shape))


def test_the_salience_follows_the_moves_of_randaugment_alone():
    ramp = (jnp.asarray(np.linspace(0.2, 0.8, SIDE**2, dtype=np.float32).reshape(SIDE, SIDE)),) * 3
    names = [operation.__name__ for operation in (*ra.COLOURS, *ra.MOVES)]

    def follow(*operations):
        chosen = ra.Chosen(jnp.array([names.index(name) for name in operations]), jnp.full(2, 0.7), jnp.ones(2))
        return augment.RandAugment().follow(ramp, chosen)[0], augment.RandAugment()(ramp, chosen)[0]

    np.testing.assert_array_equal(*follow("rotate", "shear_x"))
    mixed, both = follow("invert", "rotate"), follow("rotate", "rotate")
    assert np.abs(mixed[0] - mixed[1]).max() > 0.1 and np.abs(mixed[0] - both[0]).max() > 0.1
    np.testing.assert_array_equal(follow("invert", "rotate")[0], follow("rotate", "posterize")[0])
    np.testing.assert_array_equal(follow("invert", "equalize")[0], ramp[0])


def test_rotation_is_numpys_and_each_angle_as_likely():
    (_, turns), images = run(Rotate90())
    for image, turn in zip(images, turns, strict=True):
        np.testing.assert_array_equal(image, np.rot90(IMAGE, turn + 1))
    assert scipy.stats.chisquare(np.bincount(turns, minlength=3)).pvalue > 1e-3


@pytest.mark.parametrize(("border", "mode"), [("zero", "constant"), ("reflect", "reflect")])
def test_a_shift_is_a_window_of_the_padded_image(border, mode):
    (_, place), images = run(PadAndShift(pixels=3, border=border))
    padded = np.pad(IMAGE, ((3, 3), (3, 3), (0, 0)), mode=mode)
    for image, (top, left) in zip(images, place, strict=True):
        np.testing.assert_array_equal(image, padded[top : top + SIDE, left : left + SIDE])
    assert scipy.stats.chisquare(np.bincount(place @ [7, 1], minlength=49)).pvalue > 1e-3


def test_shear_is_pillows():
    pixels = np.uint8(255 * IMAGE)
    planes = augment.split(jnp.asarray(pixels / np.float32(255)))
    right, down = 0.25, -0.1
    ours = Shear()(planes, (jnp.bool_(True), jnp.array([right, down])), FILL)
    matrix = (1, right, -right * SIDE / 2, down, 1, -down * SIDE / 2)
    fill = tuple(round(255 * x) for x in FILL)
    pillow = Image.fromarray(pixels).transform(
        (SIDE, SIDE), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=fill
    )
    np.testing.assert_allclose(255 * augment.join(ours), np.float32(pillow), atol=1.01)
    (_, slopes), _ = run(Shear(slope=0.2))
    for slope in slopes.T:
        assert scipy.stats.kstest(slope, scipy.stats.uniform(-0.2, 0.4).cdf).pvalue > 1e-3


def keys_kernel(x):
    x = np.abs(x)
    return np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))


def test_elastic_deformation_is_scipys_with_displacements_between_control_points():
    grid = np.random.default_rng(1).normal(0, 0.06, (2, 4, 4))
    taps = keys_kernel((np.arange(SIDE)[:, None] + 0.5) * 4 / SIDE - np.arange(4)[None] - 0.5)
    taps /= taps.sum(1, keepdims=True)
    displaced = np.einsum("ij,kjl,ml->kim", taps, grid, taps) * SIDE + np.mgrid[:SIDE, :SIDE]
    expected = [scipy.ndimage.map_coordinates(IMAGE[..., c], displaced, order=1, mode="nearest") for c in range(3)]
    ours = apply(Elastic(), jnp.asarray(grid, jnp.float32))
    np.testing.assert_allclose(ours, np.stack(expected, axis=-1), atol=1e-4)
    assert np.abs(ours - IMAGE).max() > 0.1
    np.testing.assert_allclose(apply(Elastic(), jnp.zeros((2, 4, 4))), IMAGE, atol=1e-6)
    (_, displacements), _ = run(Elastic(amplitude=0.05))
    assert scipy.stats.kstest(displacements[:, 1, 2, 3], scipy.stats.norm(0, 0.05).cdf).pvalue > 1e-3


def test_a_hole_is_a_square_around_a_point_anywhere_in_the_image():
    (_, place), images = run(Cutout(size=0.5))
    for image, (y, x) in zip(images, np.floor(SIDE * place).astype(int), strict=True):
        expected = IMAGE.copy()
        expected[max(0, y - 4) : y + 4, max(0, x - 4) : x + 4] = FILL
        np.testing.assert_array_equal(image, expected)


def test_noise_is_normal_and_independent_in_every_value_and_draw():
    gray = (jnp.full((SIDE, SIDE), 0.5),) * 3
    _, images = run(GaussianNoise(std=0.05), n=20, image=gray)
    noise = (images - 0.5).reshape(20, -1)
    assert scipy.stats.kstest(noise.ravel(), scipy.stats.norm(0, 0.05).cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(noise) - np.eye(20)).max() < 5 / np.sqrt(noise.shape[1])
    assert np.abs(np.corrcoef(images.reshape(-1, 3).T) - np.eye(3)).max() < 5 / np.sqrt(20 * SIDE**2)


def test_one_channel_stays_and_each_is_as_likely():
    (_, kept), images = run(ColorDrop())
    for image, plane in zip(images, kept, strict=True):
        expected = np.broadcast_to(np.float32(FILL), IMAGE.shape).copy()
        expected[..., plane] = IMAGE[..., plane]
        np.testing.assert_array_equal(image, expected)
    assert scipy.stats.chisquare(np.bincount(kept, minlength=3)).pvalue > 1e-3


def test_sobel_is_the_size_of_scipys_derivative():
    for plane, ours in enumerate(apply(Sobel(), None).transpose(2, 0, 1)):
        along = [scipy.ndimage.sobel(IMAGE[..., plane], axis, mode="mirror") for axis in (0, 1)]
        np.testing.assert_allclose(ours, np.minimum(np.hypot(*along) / 4, 1), atol=1e-5)
    step = np.repeat(np.float32(np.arange(SIDE) >= 8)[None, :], SIDE, axis=0)
    edges = Sobel()((jnp.asarray(step),) * 3, (jnp.bool_(True), None))[0]
    np.testing.assert_allclose(edges[3], np.float32((np.arange(SIDE) == 7) | (np.arange(SIDE) == 8)), atol=1e-6)
