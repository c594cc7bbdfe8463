"""The command evaluates a run beside its baselines, writes what it found, and compares two runs."""

import functools
import json
import re
import shutil
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from PIL import Image
from test_methods import BARE, ROOT, overrides
from toy import save_run

import ssl_jax
from ssl_jax import parallel, report
from ssl_jax.build import build
from ssl_jax.config import load
from ssl_jax.errors import UserError
from ssl_jax.evaluate import opening
from ssl_jax.evaluate.__main__ import main, parser
from ssl_jax.evaluate.online import Evaluator
from ssl_jax.trainer import Trainer


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """Programs for one device compile faster; those for eight are tested elsewhere."""
    monkeypatch.setattr(parallel, "make_mesh", functools.partial(parallel.make_mesh, jax.devices()[:1]))


def evaluate(*arguments):
    main(parser().parse(list(map(str, arguments))))


def found(workdir, name):
    return json.loads((workdir / "evaluations" / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """The workdir of a run with random weights, other than those of its seed."""
    workdir = tmp_path_factory.mktemp("simclr")
    save_run(workdir, load(str(ROOT / "configs" / "simclr.py"), overrides("simclr", **BARE)))
    report.write([workdir])  # is written again
    return workdir


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A labelled folder of one split: ten images of two colours."""
    folder = tmp_path_factory.mktemp("colours")
    for label, colour in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
        (folder / "train" / label).mkdir(parents=True)
        for i in range(5):
            noise = np.random.default_rng(i).integers(0, 40, (16, 16, 3))
            image = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(image).save(folder / "train" / label / f"{i}.png")
    return folder


def test_several_protocols_beside_their_baselines(workdir, capsys):
    evaluate(
        f"--workdir={workdir}",
        "--protocol=knn,linear",
        "--knn.k=20,5",
        "--knn.temperature=0.07,1",
        "--linear.rates=0.1,1",
        "--linear.layers=backbone,projection",
        "--linear.epochs=2",
        "--linear.copies=2",
    )
    said = capsys.readouterr().out
    knn, linear = found(workdir, "knn"), found(workdir, "linear")
    assert (knn["images"], knn["bank"], knn["step"], knn["source"]) == (64, 64, 3, "embedded:fashion_mnist")
    assert knn["interval"][0] <= knn["top1"] <= knn["interval"][1]
    assert [(row["k"], row["temperature"]) for row in knn["rows"]] == [(20, 0.07), (20, 1), (5, 0.07), (5, 1)]
    assert knn["rows"][0]["top1"] == knn["top1"]
    assert knn["settings"] == {"k": [20, 5], "temperature": [0.07, 1]}
    assert linear["points"] == 2 * 2 * 4
    for name, result in (("knn", knn), ("linear", linear)):
        assert set(result["baselines"]) == {"random initialisation", "raw pixels"}
        assert f"\n{name}: 64 images of embedded:fashion_mnist" in f"\n{said}"
    page = (workdir / "report.html").read_text()
    assert f"{knn['top1']:.1f}" in page and "random initialisation" in page
    evaluate("--compare", workdir, workdir)
    assert re.search(r"knn: .*\+0\.0 \(95 %: \+0\.0 to \+0\.0\) is no more than noise", capsys.readouterr().out)


def test_one_split_of_another_source_leaves_out_one_image_at_a_time(workdir, folder, tmp_path, capsys):
    evaluate(
        f"--workdir={workdir}",
        "--protocol=knn",
        f"--data=folder:{folder}",
        f"--out={tmp_path}",
        "--knn.k=3",
        "--config.evaluate.feature=projection",
    )
    knn = found(tmp_path, "knn")
    assert (knn["images"], knn["bank"], knn["source"]) == (10, 10, f"folder:{folder}")
    assert knn["baselines"]["raw pixels"]["top1"] == 100.0
    assert knn["feature"] == "projection"
    with pytest.raises(UserError, match=r"the protocol linear needs a test split, but folder:.* has none"):
        evaluate(f"--workdir={workdir}", "--protocol=knn,linear", f"--data=folder:{folder}", f"--out={tmp_path}")


class Imported(NamedTuple):
    """Weights as `ssl_jax.import_weights` returns them."""

    method: Any
    weights: Any
    recipe: Any
    size: int = 16
    canvas: int = 16
    crop: float = 1.0
    feature: str = "backbone"


def test_published_weights_are_evaluated_on_images_that_are_named(workdir, folder, tmp_path, monkeypatch):
    trained, *_ = opening.judge_run(str(workdir), None, parallel.make_mesh()).subjects
    weights = jax.device_get(trained.weights)
    model = Imported(trained.run.method, weights, trained.run.recipe)
    monkeypatch.setattr(ssl_jax, "import_weights", lambda file: model, raising=False)
    file = tmp_path / "resnet.npz"
    with pytest.raises(UserError, match="name labelled ones with --data"):
        evaluate(f"--weights={file}", "--protocol=knn")
    asked = "--protocol=knn", f"--data=folder:{folder}", "--knn.k=3"
    evaluate(f"--weights={file}", *asked)
    evaluate(f"--workdir={workdir}", *asked, f"--out={tmp_path}")
    ours, theirs = found(tmp_path / "resnet_evaluated", "knn"), found(tmp_path, "knn")
    assert ours.pop("weights") == str(file) and theirs.pop("step") == 3
    del theirs["baselines"]["random initialisation"]
    assert ours == theirs


def test_training_is_evaluated_on_another_source(folder, tmp_path):
    """Its images are learned from too, and no probe learns labels that training does not see."""
    test = tmp_path / "both" / "test"
    shutil.copytree(folder, tmp_path / "both")
    shutil.copytree(folder / "train", test)
    more = {"evaluate.source": f"folder:{tmp_path / 'both'}", "evaluate.neighbours": "3"}
    run = build(load(str(ROOT / "configs" / "simclr.py"), overrides("simclr", **BARE, **more)))
    assert (run.classes, len(run.bank), len(run.test), len(run.source)) == (("blue", "red"), 10, 10, 10_000)
    trainer = Trainer(run, parallel.make_mesh())
    state, evaluator = trainer.init(), Evaluator(run, trainer.mesh)
    assert state.probe is None
    measured = evaluator.measure(evaluator.extract(state), state.probe)
    assert measured.keys() == {"rank", "knn_top1", "projection_knn_top1"}
    more["evaluate.source"] = f"folder:{folder}"
    with pytest.raises(UserError, match="which has no labelled training and test images; name a set with both"):
        build(load(str(ROOT / "configs" / "simclr.py"), overrides("simclr", **more)))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--protocol=kn"], "unknown protocol 'kn'; did you mean 'knn'"),
        ([], "--protocol is not given; name one or several of knn, linear"),
        (["--protocol=knn", "--knn.k=0"], "--knn.k is 0; set it to one or several, each more than 0"),
        (["--protocol=knn", "--knn.k=2,x"], "--knn.k takes a whole number, not '2,x'"),
        (["--protocol=finetune", "--finetune.rate=fast"], "--finetune.rate takes a number, not 'fast'"),
        (["--protocol=knn", "--linear.epochs=3"], "--linear.epochs is given, but not its protocol; add linear"),
        (["--protocol=linear", "--linear.recipe=mocco"], "--linear.recipe is mocco; set it to grid or moco"),
        (
            ["--protocol=logreg", "--logreg.shots=50"],
            "--logreg.shots is 50, but a class has . images to learn from; set it to .",
        ),
        (["--protocol=knn", "--config.data.size=8"], r"--config\.data\.size is not for an evaluation"),
        (["--protocol=health", "--health.images=1"], "--health.images is 1; set it to 2 or more"),
        (["--protocol=finetune", "--finetune.shares=0,1"], "--finetune.shares is 0,1; set it to one or several, each"),
        (["--protocol=transfer"], "--transfer.sources is not given; set it to the sources of labelled images"),
    ],
)
def test_mistakes_are_one_sentence(workdir, arguments, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        evaluate(f"--workdir={workdir}", *arguments)
    assert "\n" not in str(caught.value)


@pytest.fixture
def photos(tmp_path):
    """A folder with a training and a test image of each of two classes, and one without classes."""
    for place in ("two/train/a", "two/train/b", "two/test/a", "two/test/b", "flat"):
        (tmp_path / place).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(tmp_path / place / "0.png")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--protocol=retrieval", "--data=folder:two"], "none that is not alone in its class; name other images"),
        (["--protocol=health", "--data=folder:flat"], "health needs two images or more, and folder:flat has 1"),
        (["--protocol=transfer", "--transfer.sources=folder:flat"], "folder:flat, which has no labelled training"),
        (["--protocol=finetune", "--finetune.sources=folder:two"], "folder:two, whose classes are not those of the"),
        (["--protocol=finetune", "--finetune.sources=folder:flat"], "folder:flat, whose classes are not those of the"),
    ],
)
def test_images_that_do_not_fit_a_protocol_are_one_sentence(workdir, photos, monkeypatch, arguments, sentence):
    monkeypatch.chdir(photos)
    with pytest.raises(UserError, match=sentence):
        evaluate(f"--workdir={workdir}", *arguments)


def test_there_is_something_to_compare(workdir, tmp_path):
    with pytest.raises(UserError, match=r"nowhere has no results to compare; first run .* --protocol=knn"):
        evaluate("--compare", tmp_path / "nowhere", workdir)


def test_there_is_a_run_to_evaluate():
    with pytest.raises(UserError, match=r"there is no run in 'runs/nowhere'.*name the workdir of a trained run"):
        evaluate("--workdir=runs/nowhere", "--protocol=knn")
