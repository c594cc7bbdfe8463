"""Embeddings in a file: of which images, after an interruption, and what is near to what."""

import csv
import dataclasses
import html.parser
import json
import os
import pathlib
import shutil

import jax
import numpy as np
import pytest
import toy
from PIL import Image
from test_methods import overrides, read

import ssl_jax
from ssl_jax import embed, embeddings, neighbours
from ssl_jax.data import Reading, files
from ssl_jax.errors import UserError

SUFFIXES = (".npz", ".parquet")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    toy.random_run(workdir, read("byol.py", overrides("byol"), None))
    return workdir


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten images of two classes in two splits, of which two are the same."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for i in range(10):
        place = root / ("test" if i > 7 else "train") / ("cat", "dog")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (16, 14 + i, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{i}.png")
        if i == 2:
            Image.fromarray(pixels).save(root / "train" / "dog" / "co&py.png")
    return root


def call(run, folder, out, *options):
    embed.main(embed.parser().parse([f"--workdir={run}", f"--source=folder:{folder}", f"--out={out}", *options]))


def columns(out):
    """All columns of a file of embeddings, as arrays or lists."""
    if out.suffix == ".npz":
        with np.load(out) as file:
            return {name: file[name].tolist() for name in file.files if name != embeddings.ABOUT}
    from pyarrow import parquet

    return parquet.read_table(out).to_pydict()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_each_image_has_a_row_and_an_interrupted_command_goes_on(suffix, run, folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / f"photos{suffix}"
    monkeypatch.setattr(embed, "SHARD", 4)
    saved = []

    def stop_at_the_third(path, array, save=embed.save):
        if len(saved) == 2:
            raise KeyboardInterrupt
        save(path, array)
        saved.append(path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(embed, "save", stop_at_the_third)
        call(run, folder, out, "--feature=projection")
    assert not out.exists()
    with pytest.raises(UserError, match=r"parts holds a part of other embeddings, .*; remove it"):
        call(run, folder, out, "--feature=backbone")
    for path in saved:  # what is there is not computed again
        np.save(path, np.load(path) + 1)
    capsys.readouterr()
    call(run, folder, out, "--feature=projection")
    said = capsys.readouterr().out
    assert "embeds 3 images, 8 are there\n" in said and "projection of 11 images of folder" in said
    found = columns(out)
    files = [f"train/cat/{i}" for i in (0, 2, 4, 6)] + [f"train/dog/{i}" for i in (1, 3, 5, 7, "co&py")]
    files += ["test/cat/8", "test/dog/9"]
    assert found["file"] == [str(folder / f"{name}.png") for name in files]
    assert found["split"] == ["train"] * 9 + ["test"] * 2
    assert found["class"] == ["cat"] * 4 + ["dog"] * 5 + ["cat", "dog"]
    assert found["label"] == [0] * 4 + [1] * 5 + [0, 1]
    expected = ssl_jax.load(run).embed([Image.open(file) for file in found["file"]], "projection")
    expected[:8] += 1
    np.testing.assert_allclose(np.asarray(found["embedding"], np.float32), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(embeddings.read(out), np.asarray(found["embedding"], np.float32))
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_split_without_labels(run, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(files, "content", lambda path: read.append(path) or pathlib.Path(path).read_bytes())
    Image.new("RGB", (16, 16), "red").save(tmp_path / "a.png")
    Image.new("RGB", (16, 16), "blue").save(tmp_path / "b.png")
    call(run, tmp_path, tmp_path / "out.npz", "--split=train")
    assert set(columns(tmp_path / "out.npz")) == {"file", "split", "embedding"}
    assert len(read) == 2  # to check it and to embed it an image is decoded once
    with pytest.raises(UserError, match="has no test split; leave --split out"):
        call(run, tmp_path, tmp_path / "out.npz", "--split=test")


def test_what_is_not_embedded_is_said_and_names_need_not_be_text(run, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (16, 16), "red").save(os.fsencode(photos) + b"/caf\xe9.png")
    Image.new("RGB", (16, 16), "blue").save(photos / "b.png")
    (photos / "damaged.png").write_text("")
    for suffix in SUFFIXES:
        call(run, photos, tmp_path / f"out{suffix}")
        assert "left out 1 (unreadable): photos/damaged.png (not an image)\n" in capsys.readouterr().out
    assert columns(tmp_path / "out.parquet")["file"] == [str(photos / "b.png"), f"{photos}/caf\\xe9.png"]


def test_a_damaged_file_of_a_large_folder_has_no_row(run, folder, tmp_path, monkeypatch, capsys):
    """In folders of more than `CHECKED` files a damaged one is noticed only when it is read."""
    photos = shutil.copytree(folder, tmp_path / "photos")
    monkeypatch.setattr("ssl_jax.data.folder.CHECKED", 5)
    monkeypatch.setattr(embed, "SHARD", 4)
    damaged = photos / "train" / "dog" / "1.png"
    damaged.write_bytes(damaged.read_bytes()[:100])
    call(run, folder, tmp_path / "whole.npz")
    for suffix in SUFFIXES:
        for _ in range(2):  # the second time it is there
            capsys.readouterr()
            call(run, photos, out := tmp_path / f"out{suffix}", "--nearest=2")
            said = capsys.readouterr().out
            assert f"left out 1 (unreadable): {damaged} (" in said
            assert "backbone of 10 images of" in said
        found = columns(out)
        assert damaged not in map(pathlib.Path, found["file"]) and len(found["file"]) == 10
        expected = np.delete(embeddings.read(tmp_path / "whole.npz"), 4, axis=0)
        np.testing.assert_allclose(np.asarray(found["embedding"], np.float32), expected, rtol=1e-4, atol=1e-5)
    assert str(damaged) not in (tmp_path / "out_outliers.csv").read_text()


def test_a_folder_of_shards_that_cannot_be_used(tmp_path):
    with pytest.raises(UserError, match=r"none/parts cannot be written \(No such file or directory\); name another"):
        embed.claim(tmp_path / "none" / "parts", {})
    embed.claim(tmp_path / "parts", {"feature": "backbone"})
    (tmp_path / "parts" / "about.json").write_text("{")
    with pytest.raises(UserError, match="parts holds a part of other embeddings"):
        embed.claim(tmp_path / "parts", {"feature": "backbone"})


def test_images_are_as_large_as_the_run_allows(run, folder, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["data"]["max_pixels"] = 100
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="more than 100 pixels"):
        call(tmp_path / "run", folder, tmp_path / "out.npz")


def test_other_weights_or_files_under_the_same_names_are_embedded_again(run, folder):
    images = embed.open_images(f"folder:{folder}", None, None, Reading())
    model = ssl_jax.load(run)
    other = dataclasses.replace(model, weights=jax.tree.map(lambda x: x + 1, model.weights))
    number = embed.checksum(model, images)
    assert number == embed.checksum(ssl_jax.load(run), images) != embed.checksum(other, images)
    images.sources[0].bytes[0] += 1
    assert number != embed.checksum(model, images)


class Page(html.parser.HTMLParser):
    """Counts the elements of a page, and checks that each is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.titles = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.images.append(dict(attributes))
        elif tag not in ("meta", "br"):
            self.open.append(tag)
            self.titles += [value for name, value in attributes if name == "title"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_neighbours_duplicates_and_outliers_are_shown(run, folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "photos.npz"
    call(run, folder, out, "--nearest=2.png,test/dog/9.png", "--duplicates=0.9999999")
    with monkeypatch.context() as patch:
        patch.setattr(embed, "embed", None)  # they are there
        call(run, folder, out, "--nearest=2.png,test/dog/9.png", "--duplicates=0.9999999")
    said = capsys.readouterr().out
    assert said.count("photos_outliers.csv") == 2
    page = Page((tmp_path / "photos.html").read_text())
    assert len(page.images) == 2 * 11 + 2 + 11
    assert [image["alt"] for image in page.images[:2]] == ["2.png", "co&py.png"]
    assert page.titles[1] == str(folder / "train/dog/co&py.png")
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.images)
    with (tmp_path / "photos_duplicates.csv").open() as stream:
        _, row = csv.reader(stream)
    assert row == [str(folder / "train/cat/2.png"), str(folder / "train/dog/co&py.png"), "1.0000"]
    with (tmp_path / "photos_outliers.csv").open() as stream:
        _, *rows = csv.reader(stream)
    means = [float(mean) for _, mean in rows]
    assert len(rows) == 11 and means == sorted(means)


def test_the_search_is_exact():
    random = np.random.default_rng(0)
    rows = random.normal(size=(30, 4)).astype(np.float32)
    rows[20:25] = rows[3]  # more equals than neighbours
    found = neighbours.search(rows, 0.999, k=3)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    expected = -np.sort(-similarity, axis=1)[:, :3]
    np.testing.assert_allclose(found.similarity, expected, atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(similarity, found.position, axis=1), expected, atol=1e-6)
    np.testing.assert_array_equal(found.outliers, np.argsort(expected.mean(1), kind="stable"))
    assert all(i < j for i, j, _ in found.pairs) and {n for i, j, _ in found.pairs for n in (i, j)} == {
        3,
        *range(20, 25),
    }


def test_images_are_chosen_by_number_or_name():
    files = np.array(["/p/a/1.png", "/p/b/1.png", "/p/b/21.png"])
    np.testing.assert_array_equal(neighbours.choose("2", files), [0, 2])
    np.testing.assert_array_equal(neighbours.choose("9", files), [0, 1, 2])
    np.testing.assert_array_equal(neighbours.choose("21.png,b/1.png", files), [2, 1])
    for text, says in {
        "1.png": "is the end of 2 paths; give more of the path, as in /p/a/1.png",
        "22.png": "is none of the images; did you mean '21.png'",
        "0": "set it to a number of images",
    }.items():
        with pytest.raises(UserError, match=says):
            neighbours.choose(text, files)


def test_a_file_of_another_kind_is_refused_before_any_work(run, folder, tmp_path):
    with pytest.raises(UserError, match=r"cannot be written as 'photos.csv'; valid: .npz, .parquet"):
        call(run, folder, tmp_path / "photos.csv")
    with pytest.raises(UserError, match="argument --duplicates: invalid cosine value: 'nan'"):
        call(run, folder, tmp_path / "photos.npz", "--duplicates=nan")


def test_a_file_of_other_embeddings_is_not_taken_for_these(tmp_path):
    for suffix in SUFFIXES:
        path = tmp_path / f"a{suffix}"
        assert not embeddings.is_there(path, {"feature": "backbone"})
        embeddings.write(
            path, {"file": np.array(["a", "b"])}, [np.ones((2, 3), np.float32)], 3, {"feature": "backbone"}
        )
        assert embeddings.is_there(path, {"feature": "backbone"})
        assert not embeddings.is_there(path, {"feature": "projection"})
    (tmp_path / "b.npz").write_text(json.dumps({}))
    assert not embeddings.is_there(tmp_path / "b.npz", {})
