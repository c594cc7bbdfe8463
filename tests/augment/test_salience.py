"""Crops that hold some of what is salient, and salience that follows its image."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax import augment

RNG = np.random.default_rng(3)
VALID = np.int32([2, 1, 24, 30])  # of a canvas of 32 pixels
CROP = augment.Crop((0.2, 0.6), cover=0.7)
BARE = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "jitter": 0.0, "gray": 0.0, "blur": 0.0, "randaugment": 0.0}
MOVES = {"shift": 1.0, "rotate": 1.0, "shear": 1.0, "elastic": 1.0, "cutout": 0.5}


SALIENT = np.zeros((32, 32), np.uint8)
SALIENT[2:26, 1:31] = 255


def square(top, left, side):
    mask = np.zeros((32, 32), np.uint8)
    mask[top : top + side, left : left + side] = 255
    return mask


def candidates(uniform):
    """All the boxes that are tried, in order."""
    tries = uniform.reshape(len(uniform), -1, 4)
    box = functools.partial(augment.crop_box, valid=VALID, area=CROP.area, ratio=CROP.ratio)
    return np.asarray(jax.jit(jax.vmap(jax.vmap(box)))(tries))


def held(mask, box):
    top, left, height, width = box
    return mask[top : top + height, left : left + width].sum(dtype=int) / mask.sum(dtype=int)


@pytest.mark.parametrize(
    "mask", [square(4, 5, 6), square(20, 24, 5), square(3, 4, 22)], ids=["small", "corner", "large"]
)
def test_the_first_crop_that_holds_enough_is_taken_or_else_the_one_that_holds_most(mask):
    uniform = RNG.random((500, CROP.numbers), np.float32)
    drawn = jax.jit(jax.vmap(lambda numbers: CROP.draw(numbers, VALID, jnp.asarray(mask))))(uniform)
    found = 0
    for ours, boxes in zip(np.asarray(drawn), candidates(uniform), strict=True):
        shares = [held(mask, box) for box in boxes]
        first = next((box for box, share in zip(boxes, shares, strict=True) if share >= CROP.cover), None)
        found += first is not None
        np.testing.assert_array_equal(ours, boxes[np.argmax(shares)] if first is None else first)
    assert found > 100


@pytest.mark.parametrize("mask", [None, np.zeros((32, 32), np.uint8), SALIENT], ids=["none", "empty", "all"])
def test_where_no_crop_is_better_than_another_the_first_is_taken(mask):
    crop = augment.Crop((0.2, 0.6), cover=0.1)
    uniform = RNG.random((100, CROP.numbers), np.float32)
    drawn = jax.vmap(lambda numbers: crop.draw(numbers, VALID, mask))(uniform)
    np.testing.assert_array_equal(drawn, candidates(uniform)[:, 0])


def batch_of(n=6):
    """Images that equal their mask, on a canvas with more beside them."""
    mask = RNG.integers(0, 256, (n, 32, 32), np.uint8) * (RNG.random((n, 32, 32)) < 0.3)
    box, index = np.tile(VALID, (n, 1)), np.arange(n, dtype=np.int32)
    return {
        "image": mask[..., None].repeat(3, axis=3).astype(np.uint8),
        "mask": mask.astype(np.uint8),
        "box": box,
        "index": index,
    }


@pytest.mark.parametrize(
    "recipe",
    [
        augment.recipe("cast", 24, **BARE),
        augment.recipe("swav", 24, cover=0.5, **BARE),
        augment.recipe("infomin", 24, cover=0.5, **BARE),
        augment.recipe("barlow_twins", 24, **BARE | {"solarize": 0.0}),  # no crop looks at masks; bicubic overshoots
        augment.recipe("cast", 24, **BARE | MOVES),
    ],
    ids=["cast", "small views", "patches", "uncovered", "moved"],
)
def test_an_image_that_equals_its_mask_does_so_in_every_view(recipe):
    batch = batch_of()
    both = jax.jit(lambda key, batch: [make(recipe, key, batch, 2) for make in (augment.views, augment.salience)])
    for view, mask in zip(*both(jax.random.key(4), batch), strict=True):
        assert mask.shape == view.shape[:-1] and mask.min() >= 0 and mask.max() <= 1
        np.testing.assert_allclose(mask[..., None].repeat(3, axis=-1), view, atol=1e-5)
        assert np.abs(np.diff(mask[:, :2], axis=1)).mean() > 0.01  # not all views are alike


def test_all_patches_come_from_the_crop_that_was_chosen():
    """Where brightness is the column, cells in a row differ by as much from one to the next."""
    ramp = np.arange(32, dtype=np.uint8)[None, :, None].repeat(32, axis=0).repeat(3, axis=2)
    batch = batch_of() | {"image": np.tile(4 * ramp, (6, 1, 1, 1))}
    batch["mask"] = np.stack([square(*place, 4) for place in RNG.integers(4, 20, (6, 2))])
    recipe = augment.recipe("cpc", 28, small_size=8, small_crop=(0.3, 0.6), cover=0.9, **BARE)
    side = recipe.groups[0].grid.side
    (patches,) = jax.jit(functools.partial(augment.views, recipe))(jax.random.key(0), batch, 0)
    steps = np.diff(np.asarray(patches)[..., 0].mean((2, 3)).reshape(6, side, side), axis=2)
    np.testing.assert_allclose(steps, steps[:, :1, :1].repeat(side, 1).repeat(side - 1, 2), atol=0.02)
    assert np.abs(steps).min() > 0.03


@pytest.mark.parametrize(("size", "fraction"), [(24, 1.0), (16, 0.75), (40, 1.0)])
def test_the_mask_that_evaluation_sees_lies_on_its_image(size, fraction):
    mask = square(5, 8, 12)
    raw = {"image": jnp.asarray(np.repeat(mask[None, :, :, None], 3, 3)), "mask": mask[None], "box": VALID[None]}
    image = augment.center(augment.recipe("simclr", size, **BARE), raw, size, fraction)[0, :, :, 0]
    shown = np.asarray(augment.center_mask(raw, size, fraction))[0]
    assert shown.dtype == bool and 0 < shown.mean() < 1
    assert np.mean(shown != (np.asarray(image) > 0.5)) < 0.02  # kernels differ, edges may
    classes = np.asarray(augment.center_segments(raw | {"segments": mask[None] // 255 * 7}, size, fraction))[0]
    assert classes.dtype == np.uint8 and set(np.unique(classes)) == {0, 7}
    assert np.mean(shown != (classes > 0)) < 0.02
