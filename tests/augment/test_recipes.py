"""The table of recipes, and how a config changes one."""

from dataclasses import replace

import pytest

from ssl_jax import augment
from ssl_jax.augment import Blur, Crop, Gray, Jitter, Solarize
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
    jitter, blur = Jitter(0.8, 0.4, 0.4, 0.2, 0.1, semantics="byol"), Blur(1.0, border="zero")
    assert first.then == (jitter, Gray(0.2), blur)
    assert second.then == (jitter, Gray(0.2), replace(blur, p=0.1), Solarize(0.2))
    assert first.crop == second.crop == Crop((0.08, 1.0), resample="bicubic", antialias=False)


def test_swav_has_two_large_and_six_small_views():
    recipe = augment.recipe("swav", 224)
    assert [(group.role, group.size, len(group.views), group.views[0].crop.area) for group in recipe.groups] == [
        ("large", 224, 2, (0.14, 1.0)),
        ("small", 96, 6, (0.05, 0.14)),
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
    assert {view.crop.area for view in large.views} == {(0.3, 1.0)}
    assert {view.crop.area for view in small.views} == {(0.1, 0.3)}
    assert {view.then[0].hue for view in large.views + small.views} == {0.0}
    assert recipe.space.std == (1, 1, 1)
    assert len(augment.recipe("swav", 28, small_views=0).groups) == 1


def test_another_colour_space_brings_its_own_normalisation_unless_that_is_given():
    lab = augment.SPACES["lab"]
    assert augment.recipe("cmc", 32).space == augment.recipe("swav", 32, space="lab").space == lab
    assert augment.recipe("cmc", 32, space="rgb").space == augment.SPACES["rgb"]
    assert augment.recipe("simclr", 32, space="lab", std=[1, 2, 3]).space == lab._replace(std=(1, 2, 3))


def names(view):
    return [type(operation).__name__ for operation in view.then]


def test_an_operation_joins_at_its_place_and_leaves_with_its_probability():
    """Before the first that comes later in the table: what a recipe orders otherwise stays so."""
    (view,) = augment.recipe("instdisc", 32, blur=0.5, rotate=0.1, noise=0.2).groups[0].views
    assert names(view) == ["Rotate90", "Gray", "Jitter", "Blur", "GaussianNoise"]
    (view,) = augment.recipe("instdisc", 32, gray=0.0, sigma=(1.0, 2.0)).groups[0].views
    assert names(view) == ["Jitter"]
    (view,) = augment.recipe("instdisc", 32, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0).groups[0].views
    assert names(view) == ["Gray"]
    first, _ = augment.recipe("swav", 32, order=("blur", "gray", "jitter", "solarize")).groups[0].views
    assert names(first) == ["Blur", "Gray", "Jitter"]


@pytest.mark.parametrize("name", augment.OPERATIONS)
def test_every_operation_is_switched_on_by_its_key_and_takes_its_settings(name):
    (view,) = augment.recipe("deepcluster", 32, **{name: 0.3}).groups[0].views
    assert view.then == (augment.OPERATIONS[name](0.3),)
    assert augment.recipe("deepcluster", 32, **{name: 0.0}) == augment.recipe("deepcluster", 32)


def test_strengths_of_new_operations_have_keys_with_their_name():
    changes = {"shear": 1.0, "shear_slope": 0.1, "cutout": 1.0, "cutout_size": 0.2, "sigma": (1.0, 1.0)}
    (view,) = augment.recipe("deepcluster", 32, **changes).groups[0].views
    assert view.then == (augment.Shear(slope=0.1), augment.Cutout(size=0.2))


def test_one_branch_is_only_cropped_and_flipped():
    both, one = (augment.recipe("simclr", 32, one_branch=value).groups[0].views for value in (False, True))
    assert one == (both[0], replace(both[1], then=())) and both[0] == both[1]


def test_small_views_of_a_recipe_without_are_its_first_view_of_less_of_the_image():
    large, small = augment.recipe("byol", 224, small_views=4, small_crop=(0.06, 0.2)).groups
    first = large.views[0]
    assert small == augment.Group((replace(first, crop=replace(first.crop, area=(0.06, 0.2))),) * 4, 96, "small")
    assert augment.recipe("byol", 160, small_views=1).groups[1].views[0].crop.area == (0.05, 0.14)
    assert augment.recipe("byol", 160, small_views=0) == augment.recipe("byol", 160)


def test_the_recipe_says_what_the_views_are_for():
    roles = {name: [group.role for group in augment.recipe(name, 224).groups] for name in ("byol", "dino", "infomin")}
    assert roles == {"byol": ["large"], "dino": ["large", "small"], "infomin": ["large", "patch"]}
    assert [group.role for group in augment.recipe("cpc", 260).groups] == ["patch"]


@pytest.mark.parametrize(
    "name, changes, message",
    [
        ("bylo", {}, "did you mean 'byol'"),
        ("byol", {"solarise": 0.1}, "did you mean 'solarize'"),
        ("byol", {"small_size": 96}, "no small views: set small_views"),
        ("infomin", {"small_views": 4}, "leave small_views out"),
        ("cpc", {"small_views": 4}, "leave small_views out"),
        ("instdisc", {"one_branch": True}, "one_branch takes two large views and the recipe 'instdisc' has 1"),
        ("byol", {"flip": 50}, "View.flip is 50; set it to a number from 0 to 1"),
        ("byol", {"cover": 20}, "Crop.cover is 20; set it to a number from 0 to 1"),
        ("byol", {"crop": (1.0, 0.5)}, r"Crop.area is \(1.0, 0.5\); set it to \(low, high\) with 0 < low <= high <= 1"),
        ("byol", {"crop": (0.5, 1.5)}, "0 < low <= high <= 1"),
        ("byol", {"sigma": (0.1,)}, r"Blur.sigma is \(0.1,\); set it to \(low, high\) with 0 < low <= high"),
        ("byol", {"std": (1.0, 1.0)}, "three numbers"),
        ("byol", {"space": "lap"}, "there is no colour space 'lap'; did you mean 'lab'"),
        ("byol", {"hue": 0.7}, "Jitter.hue is 0.7; set it to a number from 0 to 0.5"),
        ("byol", {"semantics": "tv"}, "Jitter.semantics is tv; set it to torchvision or simclr or byol"),
        ("byol", {"resample": "bicubc"}, "Crop.resample is bicubc; set it to bilinear or bicubic"),
        ("byol", {"blur": 1.5}, "Blur.p is 1.5"),
        ("byol", {"noise": 1.0, "noise_std": -1.0}, "GaussianNoise.std is -1.0; set it to 0 or more"),
        ("byol", {"elastic": 1.0, "elastic_points": 1}, "Elastic.points is 1; set it to 2 or more"),
        ("byol", {"shift": 1.0, "shift_pixels": 0}, "PadAndShift.pixels is 0; set it to more than 0"),
        (
            "byol",
            {"randaugment": 1.0, "magnitude": 11.0},
            "RandAugment.magnitude is 11.0; set it to",
        ),
        ("byol", {"order": ("gray", "jitter")}, "order is .*, each that is on once"),
        ("byol", {"order": ("gray", "gray", "jitter", "blur", "solarize")}, "order is"),
    ],
)
def test_mistakes_are_explained(name, changes, message):
    with pytest.raises(UserError, match=message):
        augment.recipe(name, 32, **changes)
