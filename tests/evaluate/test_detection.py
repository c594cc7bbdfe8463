"""Detection against hand-made cases and numpy, and on a small run."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from benchmarks import make_scenes
from test_methods import BARE, ROOT, overrides

from ssl_jax import parallel
from ssl_jax.config import load
from ssl_jax.data import open_source
from ssl_jax.errors import UserError
from ssl_jax.evaluate import boxes, detection, detector, opening, records
from ssl_jax.networks import Network

SQUARE = np.array([0.0, 0.0, 0.4, 0.4])


def found(*rows):
    """Boxes [n, 6] from (shift of the square to the right, class, score)."""
    return np.array([[*np.add(SQUARE, (x, 0, x, 0)), label, score] for x, label, score in rows]).reshape(-1, 6)


def there(*rows):
    return np.array([[*np.add(SQUARE, (x, 0, x, 0)), label] for x, label in rows]).reshape(-1, 5)


def test_overlap_is_intersection_over_union():
    ours, theirs = np.array([[0, 0, 2, 2], [0, 0, 1, 1.0]]), np.array([[1, 1, 3, 3], [0, 0, 2, 2.0], [5, 5, 6, 6]])
    np.testing.assert_allclose(boxes.overlaps(ours, theirs), [[1 / 7, 1, 0], [0, 1 / 4, 0]])


def test_precision_with_a_duplicate_a_false_alarm_and_a_miss_by_hand():
    ours = [found((0, 0, 0.9), (0.02, 0, 0.8), (0.5, 0, 0.6), (0.3, 1, 0.5)), found((0.5, 0, 0.7))]
    theirs = [there((0, 0), (0.5, 0)), there((0, 0), (0, 1))]
    matched = boxes.match(ours, theirs, classes=3)
    assert matched.hit.tolist() == [True, False, True, False, False]
    # Class 0, by score: hit, duplicate, false alarm, hit; one of three boxes is missed. Of class 2 there is none.
    np.testing.assert_allclose(boxes.average_precisions(matched), [(1 + 2 / 4) / 3, 0, np.nan])


def test_precision_is_the_best_at_that_recall_or_a_higher_one():
    ours = [found((0.6, 0, 0.9), (0, 0, 0.8)), found((0, 0, 0.7))]
    matched = boxes.match(ours, [there((0, 0)), there((0, 0))], classes=1)
    np.testing.assert_allclose(boxes.average_precisions(matched), [2 / 3])


def test_a_box_goes_to_what_overlaps_it_most_and_an_image_counts_as_often_as_it_is_drawn():
    ours = [found((0.1, 0, 0.9), (0, 0, 0.8)), found((0, 0, 0.5), (0.5, 0, 0.95)), found()]
    theirs = [there((0.1, 0), (0, 0)), there((0, 0)), there((0, 0))]
    matched = boxes.match(ours, theirs, classes=1)
    assert matched.hit.tolist() == [True, True, True, False]
    drawn = [0, 1, 1]
    again = boxes.match([ours[i] for i in drawn], [theirs[i] for i in drawn], classes=1)
    expected = boxes.average_precisions(again)
    np.testing.assert_allclose(boxes.average_precisions(matched, np.array([1.0, 2, 0])), expected)


def test_duplicates_are_those_of_a_class_that_overlap_a_better_one():
    ours = found((0, 0, 0.5), (0.02, 0, 0.9), (0.02, 1, 0.3), (0.3, 0, 0.4))
    np.testing.assert_array_equal(boxes.suppress(ours, 0.6), ours[[1, 3, 2]])
    assert boxes.suppress(found(), 0.6).shape == (0, 6)


def test_runs_are_compared_over_the_same_draws_of_images(tmp_path):
    images = 30
    truth = [there((0, 0))] * images
    results = {}
    for name, shifts in (("all", np.zeros(images)), ("most", 0.6 * (np.arange(images) % 5 == 0))):
        ours = [found((shift, 0, 0.5 + i / 100)) for i, shift in enumerate(shifts)]
        results[name] = detection.summary(boxes.match(ours, truth, 1), ("square",))
        (tmp_path / name).mkdir()
        records.save(tmp_path / name, "detection", results[name].numbers, results[name])
    best, worse = (tmp_path / name for name in results)
    (said,) = records.compare(best, worse, ["detection"])
    gap = results["all"].draws - results["most"].draws
    low, high = np.quantile(gap[1:], [0.025, 0.975])
    assert len(gap) == 1 + detection.DRAWS and gap[0] == 100 - results["most"].numbers["ap50"]
    assert f"the difference +{gap[0]:.1f} (95 %: +{low:.1f} to +{high:.1f}) is more than noise" in said
    (said,) = records.compare(worse, worse, [])
    assert "the difference +0.0 (95 %: +0.0 to +0.0) is no more than noise" in said


BOXES = np.float32([[[0, 0, 0.6, 0.5, 1], [0.5, 0.2, 0.9, 0.8, 0], [0, 0, 1, 1, -1]], [[0, 0, 0, 0, -1]] * 3])


def test_patches_are_to_find_the_smallest_box_around_their_centre():
    grid = rows, columns = 3, 4
    target = detector.target_of(jnp.asarray(BOXES), grid)
    for i, (y, x) in enumerate(np.ndindex(grid)):
        cx, cy = (x + 0.5) / columns, (y + 0.5) / rows
        around = [b for b in BOXES[0] if b[4] >= 0 and b[0] < cx < b[2] and b[1] < cy < b[3]]
        assert target.label[1, i] == -1 and (target.label[0, i] == -1) == (not around)
        if around:
            left, top, right, bottom, label = min(around, key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))
            sides = np.array([(cx - left) * columns, (cy - top) * rows, (right - cx) * columns, (bottom - cy) * rows])
            np.testing.assert_allclose(target.sides[0, i], sides, rtol=1e-5)
            central = np.prod([min(sides[k::2]) / max(sides[k::2]) for k in (0, 1)]) ** 0.5
            assert (int(target.label[0, i]), target.central[0, i]) == (label, pytest.approx(central, rel=1e-5))


def test_the_loss_is_that_of_the_paper():
    grid = 3, 4
    target = detector.target_of(jnp.asarray(BOXES), grid)
    random = np.random.default_rng(0)
    guess = detector.Guess(*(random.normal(size=(2, 12, *end)).astype(np.float32) for end in ((2,), (4,), ())))
    label, sides, central = map(np.asarray, target)
    total = 0.0
    for place in np.ndindex(2, 12):
        p = 1 / (1 + np.exp(-guess.classes[place].astype(float)))
        for k in range(2):
            right = label[place] == k
            total -= 0.25 * (1 - p[k]) ** 2 * np.log(p[k]) if right else 0.75 * p[k] ** 2 * np.log(1 - p[k])
        if label[place] >= 0:
            ours, theirs = np.exp(guess.sides[place].astype(float)), sides[place]
            box = [np.array([[-l, -t, r, b]]) for l, t, r, b in (ours, theirs)]
            c = 1 / (1 + np.exp(-guess.central[place]))
            total -= np.log(boxes.overlaps(*box)[0, 0])
            total -= central[place] * np.log(c) + (1 - central[place]) * np.log(1 - c)
    assert float(detector.detection_loss(guess, target)) == pytest.approx(total / np.sum(label >= 0), rel=1e-5)


def test_what_a_head_should_say_finds_the_boxes():
    grid = 3, 4
    target = detector.target_of(jnp.asarray(BOXES), grid)
    logits = jnp.where(target.label[..., None] == jnp.arange(2)[None, None], 9.0, -9.0)
    guess = detector.Guess(logits, jnp.log(target.sides), 5 * target.central)
    ours = np.asarray(detector.candidates(guess, grid))
    assert ours.shape == (2, 24, 6) and ours[1, :, 5].max() < 0.01
    best = boxes.suppress(ours[0], 0.6)[:2]
    np.testing.assert_allclose(sorted(best[:, :5].tolist()), sorted(BOXES[0, :2].tolist()), atol=1e-6)


@pytest.mark.parametrize("tuned", [False, True])
def test_a_frozen_network_has_no_gradient(tuned):
    method = detector.Detector(Network(toy.Pixels()), detector.Head(2, width=8, depth=1), tuned)
    batch = toy.batch(views=1) | {"boxes": jnp.asarray(BOXES[[0, 1] * (toy.BATCH // 2)])}
    params, state = jax.jit(method.init)(jax.random.key(0), batch)
    grads = jax.jit(jax.grad(lambda params: toy.loss(method, params, state, batch).loss))(params)
    size = {role: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(tree)) for role, tree in grads.items()}
    assert size["head"] > 0 and (size["network"] > 0) == tuned


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """The network of a small run on one device, and scenes."""
    folder = tmp_path_factory.mktemp("detection")
    cells = {"network.encoder.layers": "(1,1)"}  # as large as objects
    toy.save_run(folder / "run", load(str(ROOT / "configs" / "simclr.py"), overrides("simclr", **BARE, **cells)))
    make_scenes.make(folder / "scenes", train=16, test=4, size=32, most=2)
    mesh = parallel.make_mesh(jax.devices()[:1])
    return opening.judge_run(str(folder / "run"), f"boxes:{folder / 'scenes'}", mesh).subjects[0]


def test_boxes_of_scenes_hold_what_is_not_dark(subject):
    name = subject.samples.bank.images.name
    source = open_source(name, fields=("boxes",))
    masks = open_source(name.replace("boxes:", "segments:"), fields=("segments",))
    assert masks.fields["segments"].classes == ("background", *open_source("embedded:fashion_mnist").classes)
    for i in range(8):
        scene, mask = source[i], masks[i]["segments"]
        inside = np.zeros((32, 32), bool)
        for left, top, right, bottom, label in scene["boxes"]:
            place = np.s_[round(32 * top) : round(32 * bottom), round(32 * left) : round(32 * right)]
            inside[place] = True
            bright = scene["image"][place][..., 0] >= make_scenes.DARK
            assert all(bright.any(axis)[[0, -1]].all() for axis in (0, 1))
            name = source.fields["boxes"].classes[int(label)]
            assert set(np.unique(mask[place])) - {0} == {masks.fields["segments"].classes.index(name)}
        assert (scene["image"][~inside] < make_scenes.DARK).all()


def test_a_tuned_network_learns_where_things_are(subject, tmp_path):
    """It knows the test images, since they are those of training."""
    shutil.copytree(subject.samples.bank.images.name.removeprefix("boxes:"), tmp_path, dirs_exist_ok=True)
    shutil.copy(tmp_path / "train.jsonl", tmp_path / "test.jsonl")
    same = subject.replace(samples=opening.open_samples(subject.run, subject.mesh, f"boxes:{tmp_path}"))
    protocol = detection.Detection(tuned=True, size=32, epochs=40, batch_size=8, rate=1e-2, layer_decay=1.0)
    result = protocol(same).numbers
    assert result["images"] == 16
    assert result["ap50"] == pytest.approx(np.mean(list(result["ap"].values())))
    assert result["interval"][0] <= result["ap50"] <= result["interval"][1]
    assert result["ap50"] > 50


def test_detection_needs_boxes(subject):
    embedded = subject.replace(samples=opening.open_samples(subject.run, subject.mesh, "embedded:fashion_mnist"))
    with pytest.raises(UserError, match="embedded:fashion_mnist has no boxes; take boxes:/path"):
        opening.check("detection", detection.Detection(), embedded)
