"""Patches are cut from one crop, each at its place."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from ssl_jax import augment
from ssl_jax.augment import pipeline
from ssl_jax.errors import UserError

RNG = np.random.default_rng(11)
PLAIN = {"ratio": (1.0, 1.0), "jitter": 0.0, "gray": 0.0, "mean": (0.0,) * 3, "std": (1.0,) * 3}
JIGSAW = augment.Grid(side=3, cell=11, stride=11)
STILL = augment.View(augment.Crop((0.3, 0.9)))


def batch_of(n, size=28):
    image = RNG.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    return {"image": image, "box": np.int32([[0, 0, size, size]] * n), "index": np.arange(n, dtype=np.int32)}


def views(recipe, batch):
    (patches,) = jax.jit(functools.partial(augment.views, recipe))(jax.random.key(0), batch, 0)
    return np.asarray(patches)


BARE = augment.SPACES["rgb"]._replace(mean=(0.0,) * 3, std=(1.0,) * 3)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_patches_of_a_whole_crop_are_the_cells_of_the_image(flip):
    batch = batch_of(4)
    recipe = augment.recipe("cpc", 28, small_size=8, small_crop=(1.0, 1.0), flip=flip, **PLAIN)
    image = batch["image"][:, :, ::-1] if flip else batch["image"]
    cells = [image[:, r : r + 8, c : c + 8] for r in range(0, 21, 4) for c in range(0, 21, 4)]
    expected = np.stack(cells, axis=1) / np.float32(255)
    np.testing.assert_allclose(views(recipe, batch), expected, atol=1e-5)
    grid = recipe.groups[0].grid
    np.testing.assert_array_equal(augment.cut(jnp.asarray(image), grid), np.stack(cells, axis=1))
    assert augment.cut(jnp.asarray(image[:, :13]), grid).shape == (4, 2 * 6, 8, 8, 3)  # five rows are left over


def test_a_patch_lies_anywhere_in_its_cell_of_the_crop_that_all_share():
    """Each patch is found in the resized and mirrored crop of the first view, in its own cell."""
    batch = batch_of(64)
    recipe = augment.Recipe((augment.Group((STILL,) * 9, 8, "patch", JIGSAW),), BARE)
    key = functools.partial(jax.random.fold_in, jax.random.key(0))

    @jax.jit
    @jax.vmap
    def crop(image, valid, index):
        uniform = jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key(0), index), 0), (STILL.numbers,))
        drawn = STILL.draw(uniform, valid)
        planes = augment.resample(augment.split(image), drawn.crop, JIGSAW.size, flip=drawn.flip)
        return augment.join(planes) / 255

    crops = np.asarray(crop(batch["image"], batch["box"], batch["index"]))
    patches, places = views(recipe, batch), []
    for whole, nine in zip(crops, patches, strict=True):
        for number, patch in enumerate(nine):
            top, left = 11 * (number // 3), 11 * (number % 3)
            shifts = [(i, j) for i in range(4) for j in range(4)]
            errors = [np.abs(whole[top + i : top + i + 8, left + j : left + j + 8] - patch).max() for i, j in shifts]
            assert min(errors) < 1e-4
            places.append(int(np.argmin(errors)))
    assert scipy.stats.chisquare(np.bincount(places, minlength=16)).pvalue > 1e-3


def test_colours_change_patch_by_patch():
    batch = batch_of(8)
    batch["image"] = np.full_like(batch["image"], 100)
    recipe = augment.Recipe((augment.Group((augment.View(then=(augment.Jitter(),)),) * 9, 8, "patch", JIGSAW),), BARE)
    means = views(recipe, batch).mean((2, 3, 4)).round(4)
    assert all(len(set(row)) == 9 for row in means.tolist())


def test_all_patches_are_one_program(monkeypatch):
    calls = []
    monkeypatch.setattr(pipeline, "transform", lambda *args: calls.append(args) or augment.transform(*args))
    jax.eval_shape(
        functools.partial(augment.views, augment.recipe("cpc", 28, small_size=8)), jax.random.key(0), batch_of(2), 0
    )
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: augment.recipe("cpc", 30, small_size=8),
            "4 apart, do not fill 30; set data.size to 28 or 32",
        ),
        (lambda: augment.recipe("cpc", 6, small_size=8), "set data.size to 8"),
        (lambda: augment.recipe("cpc", 28, small_size=8, small_views=9), "leave small_views out"),
        (lambda: augment.recipe("cpc", 28, small_size=8, crop=(0.5, 1.0)), "in place of crop, set small_crop"),
        (lambda: augment.recipe("cpc", 28, small_size=8, small_views=0), "no views"),
        (lambda: augment.Group((STILL,) * 9, 8, "large", JIGSAW), "patches need one"),
        (lambda: augment.Group((STILL,) * 9, 8, "patches"), "did you mean 'patch'"),
        (lambda: augment.Group((STILL,) * 8, 8, "patch", JIGSAW), "as many equal views"),
        (lambda: augment.Group((STILL,) * 9, 12, "patch", JIGSAW), "at most 11 pixels"),
    ],
)
def test_mistakes_are_explained(make, message):
    with pytest.raises(UserError, match=message):
        make()
