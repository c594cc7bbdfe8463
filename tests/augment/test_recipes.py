"""The table of recipes, and how a config changes one."""

import pytest

from ssl_jax import augment
from ssl_jax.errors import UserError


@pytest.mark.parametrize("name", augment.RECIPES)
def test_every_recipe_has_its_captions(name):
    recipe = augment.recipe(name, 224)
    captions = augment.describe(recipe)
    assert len(set(captions)) == len(captions) == sum(1 if g.grid else len(g.views) for g in recipe.groups)
    first = recipe.groups[0]
    assert (first.grid or first).size == 224 and f"{first.size} px" in captions[0]


def test_byol_is_asymmetric_only_in_blur_and_solarize():
    first, second = augment.recipe("byol", 224).groups[0].views
    assert (first.blur, first.solarize, second.blur, second.solarize) == (1.0, 0.0, 0.1, 0.2)
    assert (first.brightness, first.contrast, first.saturation, first.hue) == (0.4, 0.4, 0.2, 0.1)
    assert first.crop == (0.08, 1.0) and first.semantics == "byol"


def test_swav_has_two_large_and_six_small_views():
    recipe = augment.recipe("swav", 224)
    assert [(group.size, len(group.views), group.views[0].crop) for group in recipe.groups] == [
        (224, 2, (0.14, 1.0)),
        (96, 6, (0.05, 0.14)),
    ]
    assert (
        augment.describe(recipe)[0] == "large view 1, 224 px" and augment.describe(recipe)[-1] == "small view 6, 96 px"
    )


def test_changes_reach_every_view_but_crop_only_the_large_ones():
    recipe = augment.recipe(
        "swav", 28, small_size=16, small_views=3, small_crop=(0.1, 0.3), crop=[0.3, 1.0], hue=0.0, std=(1, 1, 1)
    )
    large, small = recipe.groups
    assert (large.size, small.size, len(small.views)) == (28, 16, 3)
    assert {view.crop for view in large.views} == {(0.3, 1.0)} and {view.crop for view in small.views} == {(0.1, 0.3)}
    assert {view.hue for view in large.views + small.views} == {0.0}
    assert recipe.space.std == (1, 1, 1)
    assert len(augment.recipe("swav", 28, small_views=0).groups) == 1


def test_another_colour_space_brings_its_own_normalisation_unless_that_is_given():
    lab = augment.SPACES["lab"]
    assert augment.recipe("cmc", 32).space == augment.recipe("swav", 32, space="lab").space == lab
    assert augment.recipe("cmc", 32, space="rgb").space == augment.SPACES["rgb"]
    assert augment.recipe("simclr", 32, space="lab", std=[1, 2, 3]).space == lab._replace(std=(1, 2, 3))


@pytest.mark.parametrize(
    "name, changes, message",
    [
        ("bylo", {}, "did you mean 'byol'"),
        ("byol", {"solarise": 0.1}, "did you mean 'solarize'"),
        ("byol", {"small_size": 96}, "no small views"),
        ("byol", {"flip": 50}, "flip is a probability"),
        ("byol", {"cover": 20}, "cover is a share"),
        ("byol", {"crop": (1.0, 0.5)}, "crop is a range"),
        ("byol", {"crop": (0.5, 1.5)}, "0 < low <= high <= 1"),
        ("byol", {"sigma": (0.1,)}, "sigma is a range"),
        ("byol", {"std": (1.0, 1.0)}, "three numbers"),
        ("byol", {"space": "lap"}, "there is no colour space 'lap'; did you mean 'lab'"),
        ("byol", {"hue": 0.7}, "hue is a strength"),
        ("byol", {"resample": "bicubc"}, "did you mean 'bicubic'"),
        ("byol", {"order": ("gray", "jitter")}, "order must name"),
    ],
)
def test_mistakes_are_explained(name, changes, message):
    with pytest.raises(UserError, match=message):
        augment.recipe(name, 32, **changes)
