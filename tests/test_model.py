"""A loaded model embeds images as evaluation saw them, wherever it is and whatever they are given as."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from PIL import Image
from test_methods import overrides, read

import ssl_jax
from ssl_jax import augment, parallel
from ssl_jax.errors import UserError
from ssl_jax.evaluate.features import Sample, encoder, extract, layers
from ssl_jax.trainer import TrainState


@pytest.fixture(scope="module")
def byol(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("byol")
    toy.random_run(workdir, read("byol.py", overrides("byol"), None))
    return ssl_jax.load(workdir)


@pytest.fixture
def images():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (height, width, 3), np.uint8) for height, width in ((16, 16), (20, 33), (9, 5))]


def move_away(workdir):
    """Changes the config of a run as if its images and its teacher were on another machine."""
    path = workdir / "config.json"
    config = json.loads(path.read_text())
    config["data"]["source"] = "folder:/nowhere"
    if "teacher" in config["method"]:
        config["method"]["teacher"] = "/nowhere"
    path.write_text(json.dumps(config))


def test_weights_of_another_network_than_the_config_says_are_refused(tmp_path):
    toy.random_run(tmp_path, read("byol.py", overrides("byol"), None))
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["network"]["encoder"]["width"] *= 2
    path.write_text(json.dumps(config))
    with pytest.raises(
        UserError, match=r'are not of the network in its config.json \(For parameter "kernel" in "/encod'
    ):
        ssl_jax.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "feature"),
    [("byol", "hidden:1"), ("cmc", "projection"), ("cpc", None), ("crd", None), ("clip", "projection"), ("dino", None)],
)
def test_features_are_those_of_evaluation_without_the_images_of_training(name, feature, teacher, tmp_path):
    run, params, state = toy.random_run(tmp_path, read(f"{name}.py", overrides(name), teacher))
    mesh, count = parallel.make_mesh(), 20
    chosen, known = layers(run.method, feature)
    train = parallel.replicate(mesh, TrainState(None, params, state, None, None))
    expected = extract(encoder(run, mesh, {"x": known[chosen]}), train, Sample(run, mesh, run.source, count))["x"]
    move_away(tmp_path)
    model = ssl_jax.load(tmp_path)
    index = np.sort(np.random.default_rng(0).permutation(len(run.source))[:count])
    found = model.embed([run.source[int(i)]["image"] for i in index], feature)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.x[:count], rtol=1e-5, atol=1e-6)
    assert np.std(found, axis=0).max() > 1e-3  # images are told apart
    assert not any(jax.tree.leaves(getattr(model.weights.state, name)) for name in run.method.memories)


def test_an_image_has_the_same_features_in_any_company_on_any_devices(byol, images):
    together = byol.embed(images)
    alone = ssl_jax.Model(**{name: getattr(byol, name) for name in byol.__dataclass_fields__})
    alone.__dict__["mesh"] = parallel.make_mesh(jax.devices()[:1])
    for i, image in enumerate(images):
        np.testing.assert_allclose(alone.embed([image])[0], together[i], rtol=1e-4, atol=1e-6)


def test_images_of_pillow_are_seen_as_a_viewer_shows_them(byol, images):
    turned = Image.fromarray(images[1]).transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6  # to be shown rotated by 270 degrees
    clear = Image.fromarray(np.dstack([images[0], np.full((16, 16), 0, np.uint8)]))
    grey = Image.fromarray(images[2]).convert("L")
    white, levels = np.full((16, 16, 3), 255, np.uint8), np.repeat(np.asarray(grey)[:, :, None], 3, axis=2)
    np.testing.assert_allclose(byol.embed([turned, clear, grey]), byol.embed([images[1], white, levels]), rtol=1e-6)


def test_the_network_is_there_for_flax(byol, images):
    batch = {"image": jnp.asarray(images[0][None]), "box": jnp.array([[0, 0, 16, 16]])}
    seen = augment.center(byol.recipe, batch, byol.size)
    features = byol.network.apply(byol.variables, seen, method="encode")
    np.testing.assert_allclose(features, byol.embed(images[:1], "backbone"), rtol=1e-4, atol=1e-6)


def test_only_what_is_asked_for_is_imported():
    subprocess.run([sys.executable, "-c", "import sys, ssl_jax; assert 'jax' not in sys.modules"], check=True)
    with pytest.raises(AttributeError, match=r"ssl_jax.*no attribute 'lod'"):
        _ = ssl_jax.lod


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "there are no images"),
        (np.zeros((2, 8, 8), np.uint8), r"image 0 is uint8\[8, 8\]; give a list of PIL images or of uint8 arrays"),
        ([np.zeros((8, 8, 3))], r"image 0 is float64\[8, 8, 3\]"),
        (["a.png"], "image 0 is str"),
        ("a.png", "the images are one str; give a list of PIL images"),
        (Image.new("RGB", (8, 8)), "the images are one Image; give a list of PIL images"),
    ],
)
def test_what_is_no_image_is_named(byol, given, says):
    with pytest.raises(UserError, match=says):
        byol.embed(given)


def test_a_feature_that_is_not_there_is_named(byol, images):
    with pytest.raises(UserError, match="the feature is 'hidden:9', but the projector has 1 hidden layer;"):
        byol.embed(images, "hidden:9")


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no run in .*name the workdir of a trained run"):
        ssl_jax.load(tmp_path)
