"""The canvas of a run: enough pixels for its smallest crops, no more than its images have."""

import pytest
from PIL import Image
from test_methods import ROOT

from ssl_jax.build import build
from ssl_jax.config import load
from ssl_jax.run import build_recipes, reading


def of(config="simclr.py", **changes):
    changes = [(key.replace("__", "."), str(value)) for key, value in changes.items()]
    config = load(str(ROOT / "configs" / config), changes)
    return reading(config, build_recipes(config))


@pytest.mark.parametrize(
    ("changes", "canvas"),
    [
        ({"augment__crop": (0.08, 1.0)}, 226),  # 64 pixels from 8 % of the area
        ({"augment__crop": (0.25, 1.0)}, 128),
        ({"augment__crop": (1.0, 1.0)}, 64),
        # small views of 27 pixels from 5 % need 121
        ({"augment__crop": (0.25, 1.0), "augment__small_views": 2, "augment__small_size": 32}, 143),
        ({"augment__crop": (0.25, 1.0), "resolution__sizes": (64, 96)}, 192),
        ({"data__canvas": 40}, 40),
    ],
)
def test_the_smallest_crop_has_as_many_pixels_as_its_view(changes, canvas):
    assert of(data__size=64, **changes).canvas(4000) == canvas
    assert of(data__size=64, **changes).canvas(None) == canvas  # of unknown size


def test_patches_of_one_crop_need_what_the_crop_needs():
    assert of("cpc.py", augment__small_crop=(0.25, 1.0)).canvas(4000) == 2 * of("cpc.py").least


def test_small_images_are_not_placed_on_a_large_canvas():
    needs = of(data__size=64)
    assert needs.canvas(100) == 100 and needs.canvas(64) == needs.canvas(28) == 64


def test_a_run_takes_the_canvas_of_its_images(tmp_path):
    config = [("network.encoder.width", "0.0625"), ("batch_size", "8"), ("augment.crop", "(0.16,1.0)")]
    assert build(load(str(ROOT / "configs/simclr.py"), config)).canvas == 28
    for i in range(8):
        Image.new("RGB", (60, 10 + i)).save(tmp_path / f"{i}.jpg")
    for size, canvas in ((28, 60), (16, 40)):
        changes = ("data.source", f"folder:{tmp_path}"), ("data.size", str(size))
        run = build(load(str(ROOT / "configs/simclr.py"), [*config, *changes]))
        assert run.canvas == run.source[0]["image"].shape[1] == canvas
