"""From a batch to views: what the pixels depend on, and what they do not."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from ssl_jax import augment

RNG = np.random.default_rng(5)
BYOL = augment.recipe("byol", 20)
SAME = 1e-4  # rounding, in units of a standard deviation; a level of the original uint8 is 0.02
SWAV = augment.recipe("swav", 16, small_size=8)
ALL = augment.recipe("byol", 20, **dict.fromkeys(augment.OPERATIONS, 0.5))
OFF = {"crop": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0, "jitter": 0.0, "gray": 0.0, "blur": 0.0, "solarize": 0.0}


def batch_of(n, canvas=24):
    return {
        "image": RNG.integers(0, 256, (n, canvas, canvas, 3), dtype=np.uint8),
        "box": np.tile(np.int32([[1, 2, 20, 22]]), (n, 1)),
        "index": RNG.permutation(1000)[:n].astype(np.int32),
    }


BATCH = batch_of(16)


@functools.cache
def program(recipe):
    return jax.jit(functools.partial(augment.views, recipe))


def views(recipe, batch, seed=0, epoch=0):
    return [np.asarray(group) for group in program(recipe)(jax.random.key(seed), batch, epoch)]


center = jax.jit(augment.center, static_argnums=(0, 2, 3))


def test_shapes_and_ranges():
    large, small = views(SWAV, BATCH)
    assert large.shape == (16, 2, 16, 16, 3) and small.shape == (16, 6, 8, 8, 3)
    assert large.dtype == small.dtype == np.float32
    back = large * np.float32(SWAV.space.std) + np.float32(SWAV.space.mean)
    assert back.min() > -1e-6 and back.max() < 1 + 1e-6
    np.testing.assert_allclose(augment.denormalize(SWAV, large), back, atol=1e-6)


@pytest.mark.parametrize("name", ["lab", "ycbcr"])
def test_a_colour_space_changes_the_last_step_alone_and_can_be_undone(name):
    rgb, space = (augment.recipe("instdisc", 20, space=space) for space in ("rgb", name))
    planes = augment.split(augment.denormalize(rgb, views(rgb, BATCH)[0]))
    expected = augment.normalize(augment.SPACES[name].from_rgb(planes), space.space.mean, space.space.std)
    ours = views(space, BATCH)[0]
    np.testing.assert_allclose(ours, augment.join(expected), atol=SAME)
    np.testing.assert_allclose(augment.denormalize(space, ours), augment.join(planes), atol=SAME)
    pixels = augment.denormalize(rgb, center(rgb, BATCH, 12))
    np.testing.assert_allclose(augment.denormalize(space, center(space, BATCH, 12)), pixels, atol=SAME)


@pytest.mark.parametrize("recipe", [BYOL, SWAV, ALL], ids=["byol", "swav", "all operations"])
def test_an_example_gets_the_same_pixels_wherever_it_lies(recipe):
    order = RNG.permutation(16)
    shuffled = {name: array[order] for name, array in BATCH.items()}
    for straight, permuted in zip(views(recipe, BATCH), views(recipe, shuffled), strict=True):
        np.testing.assert_allclose(permuted, straight[order], atol=SAME)


@pytest.mark.parametrize("recipe", [BYOL, SWAV, ALL], ids=["byol", "swav", "all operations"])
def test_one_and_eight_devices_see_the_same_pixels_without_communication(recipe):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    sharded = jax.device_put(BATCH, sharding)
    key, epoch = jax.device_put((jax.random.key(0), 0), NamedSharding(mesh, PartitionSpec()))
    compiled = jax.jit(functools.partial(augment.views, recipe)).lower(key, sharded, epoch).compile()
    for one, eight in zip(views(recipe, BATCH), compiled(key, sharded, epoch), strict=True):
        assert eight.sharding.is_equivalent_to(sharding, eight.ndim)
        np.testing.assert_allclose(eight, one, atol=SAME)
    assert not any(
        word in compiled.as_text() for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute")
    )


def test_seed_epoch_example_and_view_change_the_pixels():
    base = views(BYOL, BATCH)[0]
    twin = BATCH | {"image": BATCH["image"][:1].repeat(16, 0)}
    assert np.abs(views(BYOL, BATCH, seed=1)[0] - base).mean() > 0.1
    assert np.abs(views(BYOL, BATCH, epoch=1)[0] - base).mean() > 0.1
    assert np.abs(base[:, 0] - base[:, 1]).mean() > 0.1
    assert np.abs(np.diff(views(BYOL, twin)[0][:, 0], axis=0)).mean(axis=(1, 2, 3)).min() > 0.01


def test_an_epoch_may_be_given_per_example():
    mixed = views(BYOL, BATCH, epoch=np.int32([0, 1] * 8))[0]
    np.testing.assert_allclose(mixed[::2], views(BYOL, BATCH, epoch=0)[0][::2], atol=SAME)
    np.testing.assert_allclose(mixed[1::2], views(BYOL, BATCH, epoch=1)[0][1::2], atol=SAME)


def test_more_small_views_leave_the_others_as_they_are():
    fewer = views(augment.recipe("swav", 16, small_size=8, small_views=2), BATCH)
    for few, many in zip(fewer, views(SWAV, BATCH), strict=True):
        np.testing.assert_allclose(few, many[:, : few.shape[1]], atol=SAME)


def test_what_lies_beside_the_image_on_its_canvas_is_never_seen():
    top, left, height, width = BATCH["box"][0]
    moved = {
        "image": RNG.integers(0, 256, (16, 40, 36, 3), dtype=np.uint8),
        "box": np.tile(np.int32([[9, 7, height, width]]), (16, 1)),
        "index": BATCH["index"],
    }
    moved["image"][:, 9 : 9 + height, 7 : 7 + width] = BATCH["image"][:, top : top + height, left : left + width]
    for here, there in zip(views(BYOL, BATCH), views(BYOL, moved), strict=True):
        np.testing.assert_allclose(there, here, atol=SAME)
    np.testing.assert_allclose(center(BYOL, moved, 12), center(BYOL, BATCH, 12), atol=SAME)


def test_with_everything_off_the_image_comes_back():
    batch = BATCH | {"box": np.tile(np.int32([[2, 3, 20, 20]]), (16, 1))}
    expected = (batch["image"][:, 2:22, 3:23] / 255 - np.float32(BYOL.space.mean)) / np.float32(BYOL.space.std)
    off = views(augment.recipe("byol", 20, **OFF), batch)[0]
    neutral = {"brightness": 1e-9, "contrast": 1e-9, "saturation": 1e-9, "hue": 1e-9}
    on = {"jitter": 1.0, "blur": 1.0, "sigma": (1e-3, 1e-3)}
    idle = views(augment.recipe("byol", 20, **OFF | on | neutral), batch)[0]
    for view in (off, idle):
        np.testing.assert_allclose(view, np.stack([expected, expected], axis=1), atol=1e-5)


def test_each_step_does_what_its_operation_does():
    batch = BATCH | {"box": np.tile(np.int32([[2, 3, 20, 20]]), (16, 1))}
    image = augment.split(jnp.asarray(batch["image"][:, 2:22, 3:23] / np.float32(255)))

    def only(**on):
        return views(augment.recipe("simclr", 20, **OFF | on), batch)[0][:, 0]

    np.testing.assert_allclose(only(flip=1.0), augment.join(image)[:, :, ::-1], atol=1e-6)
    np.testing.assert_allclose(only(gray=1.0), augment.join(augment.grayscale(image)), atol=1e-6)
    np.testing.assert_allclose(only(solarize=1.0), augment.join(augment.solarize(image)), atol=1e-6)
    blurred = jax.vmap(lambda planes: augment.blur(planes, 0.7, 1, "zero"))(image)  # a tenth of 20 pixels: radius 1
    np.testing.assert_allclose(only(blur=1.0, sigma=(0.7, 0.7)), augment.join(blurred), atol=1e-6)
    pil = jax.vmap(lambda planes: augment.blur(planes, 0.7, 3, "edge"))(image)
    np.testing.assert_allclose(only(blur=1.0, sigma=(0.7, 0.7), border="edge"), augment.join(pil), atol=1e-6)


def test_gray_may_come_before_or_after_the_jitter():
    settings = OFF | {"gray": 1.0, "jitter": 1.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.8, "hue": 0.0}
    before = views(augment.recipe("instdisc", 20, **settings), BATCH)[0]
    after = views(augment.recipe("instdisc", 20, **settings, order=("jitter", "gray", "blur", "solarize")), BATCH)[0]
    space = augment.recipe("instdisc", 20).space
    for view in (before, after):
        pixels = view * np.float32(space.std) + np.float32(space.mean)
        np.testing.assert_allclose(pixels, pixels[..., :1].repeat(3, axis=-1), atol=1e-3)
    assert np.abs(before - after).max() > 1e-3  # clipping a saturated colour changes its luma


def test_what_the_method_sees_is_made_from_what_the_host_reads():
    """The views by their roles, the salience where there are masks, and all else as it is."""
    raw = BATCH | {"label": np.arange(16, dtype=np.int32), "caption": np.zeros((16, 5), np.int32)}
    batch = functools.partial(augment.batch, SWAV)
    seen = jax.eval_shape(batch, jax.random.key(0), raw, 0)
    assert set(seen) == {"views", "label", "index", "caption"} and seen["caption"].shape == (16, 5)
    assert seen["views"].roles == ("large", "small")
    masked = jax.eval_shape(batch, jax.random.key(0), raw | {"mask": BATCH["image"][..., 0]}, 0)
    assert [array.shape for array in masked["salience"]] == [(16, 2, 16, 16), (16, 6, 8, 8)]


def test_views_leave_in_the_type_of_the_network_and_are_computed_in_float32():
    half = dataclasses.replace(BYOL, dtype="bfloat16")
    (single,), (rounded,) = (program(recipe)(jax.random.key(0), BATCH, 0) for recipe in (BYOL, half))
    assert rounded.dtype == jnp.bfloat16
    np.testing.assert_allclose(rounded.astype(float), single, rtol=2**-8, atol=SAME)
    assert augment.denormalize(half, rounded).dtype == jnp.float32


def test_one_program_serves_every_seed_and_epoch():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def traced(key, batch, epoch):
        return augment.views(BYOL, key, batch, epoch)

    for step in range(3):
        traced(jax.random.key(step), batch_of(4), jnp.int32(step))


def test_center_copies_pixels_where_nothing_needs_resizing():
    batch = {"image": RNG.integers(0, 256, (3, 28, 28, 3), dtype=np.uint8), "box": np.int32([[0, 0, 28, 28]] * 3)}
    recipe = augment.recipe("simclr", 28)
    np.testing.assert_allclose(center(recipe, batch, 28), batch["image"] / np.float32(255), rtol=1e-7)
    np.testing.assert_allclose(
        center(recipe, batch, 14, 0.5), batch["image"][:, 7:21, 7:21] / np.float32(255), rtol=1e-7
    )


def test_center_takes_the_middle_of_the_shorter_side():
    ramp = np.broadcast_to(np.arange(60, dtype=np.uint8)[:, None, None], (60, 40, 3))
    batch = {"image": ramp[None], "box": np.int32([[0, 0, 60, 40]])}
    rows = 255 * np.asarray(center(augment.recipe("simclr", 8), batch, 8, 0.5))[0, :, 0, 0]
    np.testing.assert_allclose(rows, 20.75 + 2.5 * np.arange(8), atol=0.02)  # 20 of the 60 rows, around the middle


def test_each_caption_of_an_image_is_as_likely_and_depends_on_visit_and_index_alone():
    images = 3000
    text = np.broadcast_to(np.int32([[1, 0], [2, 0], [3, 0], [0, 0]]), (images, 4, 2)).copy()
    text[: images // 2, 2] = 0  # two captions, not three
    batch = batch_of(1) | {"index": np.arange(images, dtype=np.int32), "text": text}
    choose = jax.jit(lambda key, index, text, visit: augment.pipeline.caption(key, text, index, visit))
    first = choose(jax.random.key(0), batch["index"], text, 0)[:, 0]
    for rows, expected in (
        (first[: images // 2], [0, 1 / 2, 1 / 2, 0]),
        (first[images // 2 :], [0, 1 / 3, 1 / 3, 1 / 3]),
    ):
        np.testing.assert_allclose(np.bincount(rows, minlength=4) / len(rows), expected, atol=0.05)
    np.testing.assert_array_equal(choose(jax.random.key(0), batch["index"][::-1], text[::-1], 0)[::-1, 0], first)
    assert 0.4 < np.mean(choose(jax.random.key(0), batch["index"], text, 1)[:, 0] == first) < 0.6


def test_captions_leave_the_views_as_they_are():
    text = np.ones((16, 1, 3), np.int32)
    seen = jax.jit(functools.partial(augment.batch, BYOL))(jax.random.key(0), BATCH | {"text": text}, 0)
    assert seen["text"].shape == (16, 3)
    np.testing.assert_allclose(seen["views"][0], views(BYOL, BATCH)[0], rtol=1e-4, atol=1e-5)
