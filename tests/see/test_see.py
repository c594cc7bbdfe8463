"""Sheets show what they say, of the images that evaluation sees, and the command says which a run has."""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from test_methods import ROOT, overrides

from ssl_jax import augment, data, report
from ssl_jax.build import build
from ssl_jax.checkpoint import Checkpoints
from ssl_jax.config import load
from ssl_jax.errors import UserError
from ssl_jax.language import embed_text, patch_similarity
from ssl_jax.report.pictures import GAP, LINE, levels
from ssl_jax.report.run import PICTURES
from ssl_jax.see import SHEETS, SHOWN, attention, components, observed, removal, similarity
from ssl_jax.see.__main__ import main, parser
from ssl_jax.workdir import claim, open_run

SIDE = 5 * 16  # pixels of an image in a sheet


def saved(workdir, name, **more):
    """Makes a workdir as left by a run with its first weights."""
    config = load(str(ROOT / "configs" / f"{name}.py"), overrides(name, **more))
    claim(workdir, config)
    run = build(config)
    batch = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), run.example_batch)
    params, state = jax.jit(run.method.init)(jax.random.key(1), batch)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(3, {"params": params, "state": state})
    (workdir / "metrics.jsonl").write_text('{"step": 3, "loss": 1.0}\n')
    return run


def see(*arguments):
    main(parser().parse(list(map(str, arguments))))


def picture(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("mae")
    return workdir, saved(workdir, "mae", **{"network.encoder.pool": "token"})


@pytest.fixture(scope="module")
def batch(masked):
    _, run = masked
    source = data.open_source("embedded:fashion_mnist", "test", fields=("mask",))
    raw = data.read(source, np.linspace(0, len(source) - 1, SHOWN, dtype=np.int32), run.canvas)
    return observed(run, jax.device_put(raw))


@pytest.fixture(scope="module")
def trained(masked):
    workdir, run = masked
    return jax.device_put(open_run(workdir, "").trained(run))


def test_every_sheet_has_a_title_in_the_report():
    assert {f"{name}.png" for name in SHEETS} <= set(PICTURES)


def test_the_command_draws_and_measures_and_the_report_shows_it(masked, batch, capsys):
    workdir, run = masked
    report.write([workdir])  # is written again
    see(f"--workdir={workdir}", "--masks")
    said = capsys.readouterr().out
    images = levels(augment.denormalize(run.recipe, batch["image"]))
    # Lines of text above the first row and below each, and columns.
    shape = {"attention": (2, 1, 5), "components": (2, 0, 3), "reconstructions": (1, 0, 3)}
    for name, (above, below, columns) in shape.items():
        assert f"  {name}.png\n" in said
        drawn, pitch = picture(workdir / f"{name}.png"), SIDE + GAP + below * LINE
        assert len(drawn) == GAP + above * LINE + SHOWN * pitch
        assert drawn.shape[1] >= GAP + columns * (SIDE + GAP)
        for row, image in enumerate(images):  # evaluation sees it; each pixel is a square
            top = GAP + above * LINE + row * pitch
            np.testing.assert_array_equal(drawn[top : top + SIDE, GAP : GAP + SIDE], image.repeat(5, 0).repeat(5, 1))
    result = json.loads((workdir / "evaluations" / "segmentation.json").read_text())
    assert 0 < result["jaccard"] < 100 and (result["images"], result["step"]) == (64, 3)
    assert f"64 images: {result['jaccard']:.1f}" in said
    page = (workdir / "report.html").read_text()
    assert page.count("<img") == len(shape)
    assert f"{result['random_jaccard']:.1f}" in page and f"{result['whole_jaccard']:.1f}" in page


def test_a_network_without_attention_shows_the_rest_of_other_images_elsewhere(tmp_path, capsys):
    """Of CMC, which has two networks that see other things than images."""
    saved(tmp_path / "run", "cmc")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    del config["resolution"]  # as an older version wrote it
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    photos, out = tmp_path / "photos", tmp_path / "a" / "b"
    photos.mkdir()
    for i in range(3):
        Image.fromarray(np.full((20 + i, 30, 3), 80 * i, np.uint8)).save(photos / f"{i}.png")
    see(f"--workdir={tmp_path / 'run'}", f"--images=folder:{photos}", f"--out={out}", "--masks")
    said = capsys.readouterr().out
    assert "  no attention.png: it needs a vision transformer\n" in said
    assert "  no reconstructions.png: it needs a method that predicts pixels\n" in said
    assert "Jaccard" not in said
    assert [path.name for path in out.iterdir()] == ["components.png"]
    assert not list((tmp_path / "run").glob("*.png"))
    assert len(picture(out / "components.png")) == GAP + 2 * LINE + 3 * (SIDE + GAP)


def test_the_mask_of_the_best_head_is_shown(masked, batch, trained):
    _, run = masked
    found = jax.device_get(jax.jit(functools.partial(attention.compute, run))(*trained, batch))
    encoder = run.method.network.encoder
    params = {"params": trained[0]["network"]["encoder"]}
    weights = np.asarray(jax.jit(functools.partial(encoder.apply, method="attention"))(params, batch["image"]))
    weights = weights[:, :, 0, 1:]
    for image in range(SHOWN):
        agreements, masks = [], []
        for head in range(encoder.heads):
            own = weights[image, head]
            np.testing.assert_allclose(found["attention"][image, head, ::8, ::8].ravel(), own, rtol=1e-5)
            least = np.sort(own)
            kept = own >= least[np.cumsum(least) > 0.4 * least.sum()][0]
            masks.append(np.kron(kept.reshape(2, 2), np.ones((8, 8))) > 0)
            truth = np.asarray(batch["mask"][image])
            agreements.append((masks[-1] & truth).sum() / (masks[-1] | truth).sum())
        np.testing.assert_array_equal(found["mask"][image], masks[found["head"][image]])
        np.testing.assert_allclose(found["score"][image], max(agreements), rtol=1e-5)


def test_without_masks_the_mean_of_the_heads_is_shown(masked, batch, trained):
    _, run = masked
    found = jax.jit(functools.partial(attention.compute, run))(*trained, {"image": batch["image"]})
    assert set(found) == {"attention", "mask", "token"}
    mean = np.asarray(found["attention"]).mean(1)
    kept = np.asarray(found["mask"])
    assert np.all((mean * kept).sum((1, 2)) > 0.6 * mean.sum((1, 2)))
    drawn = np.asarray(attention.draw(levels(augment.denormalize(run.recipe, batch["image"])), jax.device_get(found)))
    assert len(drawn) == GAP + 2 * LINE + SHOWN * (SIDE + GAP)


def test_what_is_outside_a_mask_is_tinted():
    grey = np.repeat(np.random.default_rng(0).integers(0, 256, (4, 4, 1), np.uint8), 3, axis=2)
    mask = np.eye(4, dtype=bool)
    shown = attention.inside(grey, mask).astype(int)
    np.testing.assert_array_equal(shown[mask], grey[mask])
    assert np.all(shown[~mask][:, 2] - shown[~mask][:, 0] > 60)


def test_components_are_those_of_the_covariance_and_repeat():
    random = np.random.default_rng(0)
    features = random.normal(size=(3, 20, 6)) @ np.diag([9, 6, 4, 0.5, 0.4, 0.3]) + random.normal(size=6)
    found = components.principal(features)
    assert found.shape == (3, 20, 3) and found.min() == 0 and found.max() == 1
    rows = features.reshape(60, 6)
    values, axes = np.linalg.eigh(np.cov(rows.T))
    for number, axis in enumerate(axes.T[np.argsort(values)[::-1][:3]]):
        expected = rows @ axis * np.sign(axis[np.abs(axis).argmax()])
        expected = (expected - expected.min()) / np.ptp(expected)
        np.testing.assert_allclose(found[..., number].ravel(), expected, atol=1e-9)
    reordered = components.principal(features[::-1, ::-1])
    np.testing.assert_allclose(reordered[::-1, ::-1], found, atol=1e-9)


def test_features_that_do_not_differ_have_a_colour():
    assert np.all(np.isfinite(components.principal(np.ones((2, 4, 5)))))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--workdir=runs/nowhere"], "there is no run in 'runs/nowhere'.*name the workdir of a trained run"),
        (
            ["--workdir={run}", "--out={run}/config.json"],
            "config.json is no folder that can be written into; name another",
        ),
        (["--workdir={run}", "--images=/photos"], "unknown data source '/photos'; write embedded:fashion_mnist"),
        (["--workdir={run}", "--images=tfds:cifar10", "--masks"], "tfds:cifar10 has no masks; take a folder of png"),
    ],
)
def test_mistakes_are_one_sentence(masked, options, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        see(*(option.format(run=masked[0]) for option in options))
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_network_is_named(masked, tmp_path):
    shutil.copytree(masked[0], tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["decoder"]["dim"] = 16
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"does not fit this config: params/decoder/.*\[.*\] now"):
        see(f"--workdir={tmp_path}")


def test_removed_patches_and_the_captions_of_images_are_shown(tmp_path, capsys):
    run = saved(tmp_path, "detailclip")
    see(f"--workdir={tmp_path}")
    said = capsys.readouterr().out
    assert "  removal.png\n" in said and "  similarity.png\n" in said
    drawn = picture(tmp_path / "removal.png")
    shown = observed(
        run, jax.device_put(data.read(run.test, np.linspace(0, len(run.test) - 1, SHOWN, dtype=np.int32), run.canvas))
    )
    images = levels(augment.denormalize(run.recipe, shown["image"]))
    params, state = jax.device_put(open_run(tmp_path, "").trained(run))
    kept = np.asarray(removal.compute(run, params, state, shown))
    count = run.method.count((4, 4)) * run.method.network.encoder.stride**2
    assert (kept.sum((1, 2)) == count).all() and count < kept[0].size
    for row, (image, mask) in enumerate(zip(images, kept, strict=True)):
        top = GAP + LINE + row * (SIDE + GAP)
        sides = [drawn[top : top + SIDE : 5, GAP + column * (SIDE + GAP) :][:, :SIDE:5] for column in (1, 2)]
        for side, seen in zip(sides, (mask, ~mask), strict=True):
            np.testing.assert_array_equal(side[seen], image[seen])
    tokens, cosine = jax.device_get(similarity.compute(run, params, state, shown))
    np.testing.assert_array_equal(tokens, shown["text"][:, 0])
    text = embed_text(run.method.network, run.method.text, params, shown["text"][:, 0])
    variables = run.method.variables(params, state)
    every = np.asarray(patch_similarity(run.method.network, variables, shown["image"], text))
    np.testing.assert_allclose(cosine[:, ::4, ::4].reshape(SHOWN, -1), every[range(SHOWN), :, range(SHOWN)], atol=1e-5)
