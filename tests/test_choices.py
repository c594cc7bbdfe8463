"""What a run chooses by its images, and that it goes on as it began."""

import json
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image
from test_methods import CONFIGS, PRESETS

from ssl_jax import augment, main
from ssl_jax.choices import are_colored, recall
from ssl_jax.config import load, load_for_photos
from ssl_jax.run import build_recipes

RGB = augment.SPACES["rgb"]


def write(folder, colors, count=8, side=40):
    """A folder of images, smooth as photographs are, in colours or in grey."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for i in range(count):
        pixels = random.integers(256, size=(4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(pixels if colors else pixels[..., :1].repeat(3, -1)).resize((side, side))
        image.save(folder / f"{i}.jpg")
    return folder


@pytest.fixture
def start(tmp_path, monkeypatch, capsys):
    """Starts the command on a folder; returns the run it would train and what it printed."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    begun = []
    monkeypatch.setattr("ssl_jax.train.train", lambda run, workdir, start: begun.append(run))

    def run(folder, *changes, config="simclr", workdir=tmp_path / "run"):
        changes = [f"--config.{change}" for change in (f"data.source=folder:{folder}", "batch_size=8", *changes)]
        main.main(main.parser().parse([f"--config={config}", f"--workdir={workdir}", *changes]))
        return begun.pop(), capsys.readouterr().out

    return run


def test_a_folder_of_colour_images_gets_the_views_of_photographs(start, tmp_path):
    run, said = start(write(tmp_path / "photos", colors=True))
    assert said.startswith("the images have colours: the views are those of 'simclr' for photographs; --config.augment")
    assert run.recipe.space.mean == RGB.mean
    assert all(view.crop.area == (0.2, 1.0) for view in run.recipe.views)
    assert run.canvas == 40  # all there is; crops of a fifth would need 28 / 0.2 ** 0.5
    jitter, gray = run.recipe.views[0].then
    assert (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue, gray.p) == (0.4, 0.4, 0.4, 0.1, 0.2)
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["augment"]["crop"] == [0.2, 1.0]


def test_grey_images_and_named_recipes_keep_the_views_of_the_config(start, tmp_path):
    grey, said = start(write(tmp_path / "xrays", colors=False))
    assert "colours" not in said
    photos = write(tmp_path / "photos", colors=True)
    named, said = start(photos, "augment.recipe=simclr", workdir=tmp_path / "named")
    assert "colours" not in said
    assert grey.recipes == named.recipes == build_recipes(load("simclr"))


def test_a_run_goes_on_with_the_views_it_began_with(start, tmp_path, monkeypatch):
    """Whatever a sample of the images looks like later, and in a run that began before there was a choice."""
    folder = write(tmp_path / "photos", colors=True, side=80)
    before, _ = start(folder)
    monkeypatch.setattr("ssl_jax.choices.are_colored", lambda images: False)
    after, said = start(folder)
    assert after.recipes == before.recipes
    assert "colours" not in said
    monkeypatch.setattr("ssl_jax.choices.are_colored", are_colored)
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps(load("simclr", [("data.source", f"folder:{folder}"), ("batch_size", "8")]).to_dict()))
    old, _ = start(folder)
    assert old.config.augment.crop == (0.4, 1.0)


def test_sizes_are_shown_as_when_the_run_began(tmp_path):
    """`mixed` was what all configs had where none was named."""

    def recalled(stored, *changes):
        (tmp_path / "config.json").write_text(json.dumps(load("byol", stored).to_dict()))
        return recall(load("byol", changes), None, tmp_path)[0]

    sizes, mixed, random = ("resolution.sizes", "(16,28)"), ("resolution.mode", "mixed"), ("resolution.mode", "random")
    assert recalled([sizes, mixed], sizes) == load("byol", [sizes, mixed])
    assert recalled([sizes], sizes) == load("byol", [sizes])
    assert recalled([mixed]) == load("byol", [mixed])
    assert recalled([sizes, mixed], sizes, random) == load("byol", [sizes, random])  # which is another run
    groups = [[group.size for group in build_recipes(load("byol", [sizes, *more]))[0].groups] for more in ([], [mixed])]
    assert groups == [[28, 16], [28]]


@pytest.mark.parametrize(
    ("tint", "colored"), [((0, 0, 0), False), ((1, 0, 1), False), ((0, 30, 90), True)], ids=["grey", "JPEG", "photo"]
)
def test_images_have_colours_if_their_channels_differ(tint, colored):
    grey = np.full((10, 10, 3), 100, np.uint8)
    assert are_colored([grey, grey + np.uint8(tint)]) == colored


@pytest.mark.parametrize("name", CONFIGS)
def test_every_recipe_has_views_for_photographs(name):
    photos, own = load(f"{name}:photos"), load(name)
    assert photos.data.source == f"folder:{pathlib.Path('photos').absolute()}"
    changed = {key for key in own if key not in ("augment", "data") and photos[key] != own[key]}
    assert changed == ({"method"} if name == "cmc" else set())  # which sees its colours
    options = {key: value for key, value in photos.augment.items() if value is not None}
    recipe = augment.recipe(options.pop("recipe"), photos.data.size, **options)
    assert recipe.space[2:] == (RGB if name != "cmc" else augment.SPACES["lab"])[2:]
    assert all(view.crop.area[0] >= 0.2 for group in recipe.groups if group.role == "large" for view in group.views)
    assert load_for_photos(name).augment == photos.augment


def test_only_recipes_for_the_embedded_images_change(tmp_path):
    published = [(name, preset) for name, preset in PRESETS if preset.startswith(("cifar10", "imagenet", "yfcc15m"))]
    assert all(load_for_photos(f"{name}:{preset}") is None for name, preset in published)
    assert load_for_photos("byol:photos") is None
    assert load_for_photos("byol:vit").network == load("byol:vit").network
    (tmp_path / "mine.py").write_text("get_config = lambda preset: {'method': {'name': 'byol'}}")
    assert load_for_photos(str(tmp_path / "mine.py")) is None
