"""The images belong to a run: it goes on with the same ones wherever they are, and says what changed in others."""

import contextlib
import json
import shutil

import jax
import pytest
from PIL import Image
from test_methods import ROOT

from ssl_jax import main
from ssl_jax.data import identity, open_source
from ssl_jax.data.subset import Subset
from ssl_jax.errors import UserError


def write(path, colour=0, size=(6, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour,) * 3).save(path)


@pytest.fixture
def images(tmp_path):
    for label in "ab":
        for i in range(8):
            write(tmp_path / "images" / label / f"{i}.png")
    return tmp_path / "images"


@pytest.fixture
def workdir(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def start(workdir, monkeypatch):
    """Starts the command, which trains nothing."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    monkeypatch.setattr("ssl_jax.train.train", lambda run, workdir, start: (workdir / "metrics.jsonl").touch())

    def run(source, *changes, config="simclr.py"):
        line = [f"--config={ROOT / 'configs' / config}", f"--workdir={workdir}", f"--config.data.source={source}"]
        changes = ("batch_size=8", "network.encoder.width=0.0625", *changes)
        main.main(main.parser().parse([*line, *(f"--config.{change}" for change in changes)]))

    return run


def test_the_same_images_go_on_from_wherever_they_are(images, workdir, start, tmp_path):
    start(f"folder:{images}")
    stored = json.loads((workdir / "data.json").read_text())
    assert stored["name"] == f"folder:{images}" and stored["images"] == 16 and stored["classes"] == ["a", "b"]
    start(f"folder:{images}/")
    shutil.move(images, tmp_path / "elsewhere")
    start(f"folder:{tmp_path}/elsewhere")
    assert json.loads((workdir / "data.json").read_text()) == stored
    assert json.loads((workdir / "config.json").read_text())["data"]["source"] == f"folder:{tmp_path}/elsewhere"


def test_other_images_are_refused_until_it_is_said_what_to_do(images, workdir, start):
    start(f"folder:{images}")
    before = {path: path.read_bytes() for path in workdir.iterdir()}
    for i in range(4):
        write(images / "a" / f"new{i}.png")
    (images / "b" / "7.png").unlink()
    write(images / "b" / "6.png", size=(30, 30))
    said = "4 added (a/new0.png, a/new1.png, a/new2.png, ...), 1 removed (b/7.png), 1 changed (b/6.png); take"
    with pytest.raises(UserError) as caught:
        start(f"folder:{images}")
    assert said in str(caught.value) and "data.changed=continue" in str(caught.value)
    assert {path: path.read_bytes() for path in workdir.iterdir()} == before
    start(f"folder:{images}", "data.changed=continue")
    start(f"folder:{images}")  # now they are those of the run
    write(images / "a" / "new9.png")
    start(f"folder:{images}", "data.changed=restart")
    assert {path.name for path in (workdir / "before-1").iterdir()} >= {"metrics.jsonl", "config.json", "data.json"}
    assert json.loads((workdir / "data.json").read_text())["images"] == 20


def test_a_method_that_remembers_each_image_cannot_go_on_with_others(images, start):
    start(f"folder:{images}", config="instdisc.py")
    write(images / "a" / "new.png")
    for changes in ((), ("data.changed=continue",)):
        with pytest.raises(UserError, match=r"1 added \(a/new\.png\); it cannot go on .* a row for each image"):
            start(f"folder:{images}", *changes, config="instdisc.py")
    start(f"folder:{images}", "data.changed=restart", config="instdisc.py")


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_other_classes_are_other_outputs_if_there_are_outputs_for_classes(images, start, share):
    start(f"folder:{images}", f"data.split={share}")
    write(images / "c" / "0.png")
    with pytest.raises(UserError, match="since the classes differ") if share else contextlib.nullcontext():
        start(f"folder:{images}", f"data.split={share}", "data.changed=continue")


def test_another_source_is_named(images, workdir, start):
    start("embedded:fashion_mnist")
    with pytest.raises(UserError, match=r"10,000 of embedded:fashion_mnist, and data\.source gives 16 of f"):
        start(f"folder:{images}")


def test_a_run_from_before_is_compared_by_the_name_of_its_source(images, workdir, start):
    start(f"folder:{images}")
    for name in (identity.FILE, identity.FILES):
        (workdir / name).unlink()
    with pytest.raises(UserError, match=r"differs in data\.source"):
        start("embedded:fashion_mnist")
    start(f"folder:{images}")
    assert (workdir / identity.FILE).exists()


def test_damage_is_said(images, workdir, start):
    start(f"folder:{images}")
    (workdir / identity.FILE).write_text('{"name":')
    with pytest.raises(UserError, match=r"data\.json is damaged; restore it, or delete it"):
        start(f"folder:{images}")


def test_the_order_of_images_counts(images):
    source = open_source(f"folder:{images}")
    turned = Subset(source, range(len(source))[::-1])
    assert identity.identity(source)["checksum"] != identity.identity(turned)["checksum"]
