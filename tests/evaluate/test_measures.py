"""Protocols on a small run: what they extract, of which images, and what they make of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from PIL import Image
from test_methods import BARE, ROOT, overrides

from ssl_jax import parallel
from ssl_jax.augment.planes import each
from ssl_jax.config import load
from ssl_jax.errors import UserError
from ssl_jax.evaluate import dense, opening, robustness
from ssl_jax.evaluate.corruptions import CORRUPTIONS, SEVERITIES, Corruption
from ssl_jax.evaluate.health import Health
from ssl_jax.evaluate.linear import Scaling
from ssl_jax.evaluate.logistic import Logistic
from ssl_jax.evaluate.retrieval import Retrieval
from ssl_jax.evaluate.transfer import Transfer


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """The network of a small run on one device."""
    workdir = tmp_path_factory.mktemp("simclr")
    toy.save_run(workdir, load(str(ROOT / "configs" / "simclr.py"), overrides("simclr", **BARE)))
    return opening.judge_run(str(workdir), None, parallel.make_mesh(jax.devices()[:1])).subjects[0]


def test_features_are_extracted_once_for_a_layer_and_a_size(subject):
    pair = subject.features()
    assert subject.features("backbone", 16) is pair
    assert subject.features("projection").bank.x.shape != pair.bank.x.shape
    assert subject.features(size=12) is subject.features(size=12) is not pair


def test_logistic_regression_is_that_of_training_and_the_few_have_an_error_bar(subject):
    found = Logistic(shots=(2,), draws=3)(subject).numbers
    bank, test = subject.features()
    assert found["top1"] == pytest.approx(100 * np.mean(Logistic(shots=())(subject).scores))
    (few,) = found["few"]
    assert few["shots"] == 2 and few["std"] > 0 and 0 < few["top1"] < 100
    assert (len(bank.x), len(test.x)) == (64, 64)


def test_corrupted_images_are_classified_as_clean_ones_are(subject, monkeypatch):
    for name, factor in (("nothing", 1.0), ("black", 0.0)):
        change = Corruption(lambda image, strength, key, factor=factor: each(lambda x: factor * x, image), (1,) * 5)
        monkeypatch.setitem(CORRUPTIONS, name, change)
    found = robustness.Robustness(corruptions=("nothing", "black"))(subject).numbers
    clean, black = ([row[f"severity {n}"] for n in SEVERITIES] for row in found["rows"])
    np.testing.assert_allclose(clean, found["clean_top1"], atol=2)  # rounding in colours and back
    label = np.asarray(subject.features().test.label)
    assert black == [black[0]] * 5 and any(black[0] == 100 * np.mean(label == one) for one in range(10))
    assert found["top1"] == pytest.approx(np.mean([clean, black]))


def test_transfer_is_logistic_regression_on_each_source(subject):
    source = "embedded:fashion_mnist"
    found = Transfer(sources=(source, source))(subject).numbers
    own = Logistic(shots=())(subject).numbers["top1"]
    assert [(row["source"], row["top1"], row["classes"]) for row in found["rows"]] == [(source, own, 10)] * 2
    assert found["top1"] == pytest.approx(own)


def test_spread_and_retrieval_of_a_network(subject):
    found = Health()(subject).numbers
    assert found["images"] == 64 and len(found["spectrum"]) == found["dimensions"] == 8
    assert 1 <= found["rank"] <= 8 and found["alignment"] > 0 > found["uniformity"]
    assert found["cohesion"] > found["separation"] and len(found["classes"]) == 10
    retrieved = Retrieval()(subject).numbers
    assert 0 < retrieved["map_at_r"] < retrieved["recall1"] < retrieved["recall8"]


def test_patches_segment_images(subject):
    found = dense.Dense()(subject).numbers
    assert found["iou"].keys() == {"background", *subject.classes}
    assert found["miou"] == pytest.approx(np.mean(list(found["iou"].values())))
    assert 0 < found["miou"] < found["pixel_accuracy"] < 100


def test_intersection_over_union_is_that_of_all_pixels():
    random = np.random.default_rng(0)
    ours, theirs = random.integers(0, 3, (2, 5, 7, 7))
    counts = np.stack(
        [
            [[np.sum((o == k) & (t == k)), np.sum((o == k) | (t == k))] for k in range(4)]
            for o, t in zip(ours, theirs, strict=True)
        ]
    )
    found = dense.summary(counts, ("a", "b", "c", "absent")).numbers
    expected = [np.sum((ours == k) & (theirs == k)) / np.sum((ours == k) | (theirs == k)) for k in range(3)]
    assert found["miou"] == pytest.approx(100 * np.mean(expected))
    assert found["pixel_accuracy"] == pytest.approx(100 * np.mean(ours == theirs))
    assert list(found["iou"]) == ["a", "b", "c"]


def test_masks_of_classes_segment_as_those_of_what_matters(subject, tmp_path):
    """A folder of masks with the classes 0 and 1 is one of images whose alpha channel is 0 and 255."""
    images = subject.samples.bank.images
    for split, index in (("train", range(12)), ("test", range(12, 18))):
        for kind in ("alpha", "classes/images", "classes/masks"):
            (tmp_path / kind.replace("/", f"/{split}/") / ("" if "/" in kind else split)).mkdir(parents=True)
        for i in index:
            image = images[i]["image"][6:22, 6:22]  # of `data.size`, so that nothing is interpolated
            mask = (image[..., :1] > 0).astype(np.uint8)
            whole = np.concatenate([image, 255 * mask], axis=-1)
            Image.fromarray(whole).save(tmp_path / "alpha" / split / f"{i:02}.png")
            Image.fromarray(image).save(tmp_path / "classes" / split / "images" / f"{i:02}.png")
            Image.fromarray(mask[..., 0]).save(tmp_path / "classes" / split / "masks" / f"{i:02}.png")
    (tmp_path / "classes" / "classes.txt").write_text("background\nobject\n")
    sources = f"folder:{tmp_path}/alpha", f"segments:{tmp_path}/classes"
    samples = [opening.open_samples(subject.run, subject.mesh, source) for source in sources]
    ours, theirs = (dense.Dense()(subject.replace(samples=one)).numbers for one in samples)
    assert ours["iou"].keys() == {"background", "object"} and ours["images"] == 6
    assert ours == theirs


def test_a_patch_has_the_class_of_most_of_its_pixels():
    random = np.random.default_rng(0)
    truth = random.integers(-1, 3, (2, 12, 12))
    truth[0, :6, :6] = 2
    truth[1, 6:, :6] = -1
    found = np.asarray(dense.majority(jnp.asarray(truth), 3, (2, 2)))
    assert (found[0, 0], found[1, 2]) == (2, -1)
    pixels = jnp.asarray(random.integers(-1, 3, (2, 3, 3)))
    np.testing.assert_array_equal(dense.majority(pixels, 3, (3, 3)), pixels.reshape(2, 9))


def test_pixels_that_do_not_count_are_no_mistakes(subject):
    """With weights that always find class 1, an image of that class and of unknown pixels has no error."""
    size = subject.size
    segments = np.full((1, size, size), 255, np.uint8)
    segments[:, : size // 2] = 1
    box = np.array([[0, 0, size, size]], np.int32)
    batch = {"image": np.zeros((1, size, size, 3), np.uint8), "segments": segments, "box": box, "label": np.array([-1])}
    width = dense.patches_of(subject, 2)(subject.weights, batch)["patches"].shape[-1]
    kernel = jnp.zeros((width + 1, 2)).at[-1].set(jnp.array([0.0, 1.0]))
    scale = Scaling(jnp.zeros((1, width)), jnp.ones((1, width)))
    counts = np.asarray(dense.segmenter(subject, scale, kernel)(subject.weights, batch)["counts"])
    assert counts.tolist() == [[[0, 0], [size * size // 2] * 2]]
    assert dense.summary(counts, ("a", "b")).numbers["iou"] == {"b": 100}


def test_dense_prediction_needs_masks(subject):
    images = subject.samples.bank.images
    other = type(images)(images.source, images.index)
    other.name = "pairs:/nowhere"
    with pytest.raises(UserError, match="pairs:/nowhere has no masks; take a folder of png images"):
        dense.Dense().check(subject.replace(samples=subject.samples._replace(bank=type("Bank", (), {"images": other}))))


def test_dense_prediction_needs_masks_that_hide_something():
    class Opaque(list):
        name, fields = "folder:/opaque", {"mask": None}

    images = Opaque({"mask": np.full((2, 2), level, np.uint8)} for level in (255, 255, 0))
    dense.check_masks(images)
    with pytest.raises(UserError, match=r"nothing is outside of those of the first 2 images of folder:/opaque"):
        dense.check_masks(Opaque(images[:2]))
