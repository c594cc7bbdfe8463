import os
import pickle
import warnings

import numpy as np
import pytest
from PIL import Image

from ssl_jax.data import folder
from ssl_jax.data.source import open_source
from ssl_jax.errors import UserError


def write(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), (value, value, value)).save(path, **({"lossless": True} if path.suffix == ".webp" else {}))
    return path


def truncate(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-2000])


def damage(directory):
    """One unreadable file of each kind."""
    (directory / "empty.jpg").touch()
    (directory / "text.png").write_text("no image at all")
    truncate(directory / "short.jpg")
    truncate(directory / "short.png")
    truncate(directory / "short.webp")
    return {"empty.jpg", "text.png", "short.jpg", "short.png", "short.webp"}


def shown(source):
    return [int(source[i]["image"].mean().round()) for i in range(len(source))]


@pytest.fixture
def labelled(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        for label, name in enumerate(("ant", "bee")):
            for i in range(count):
                write(tmp_path / split / name / f"{i}.png", 100 * label + i)
    return tmp_path


def test_sub_folders_are_the_labels(labelled):
    source = open_source(f"folder:{labelled}")
    assert source.classes == ("ant", "bee")
    assert [source[i]["label"] for i in range(len(source))] == [0, 0, 0, 1, 1, 1]
    assert shown(source) == [0, 1, 2, 100, 101, 102]
    image, label = source[0]["image"], source[0]["label"]
    assert image.shape == (4, 6, 3) and image.dtype == np.uint8 and isinstance(label, int)


@pytest.mark.parametrize("name", ["val", "test"])
def test_the_test_split_shares_the_training_split_s_classes(labelled, name):
    (labelled / "val").rename(labelled / name)
    for i in range(2):
        (labelled / name / "ant" / f"{i}.png").unlink()
    source = open_source(f"folder:{labelled}", "test")
    assert source.classes == ("ant", "bee")
    assert [source[i]["label"] for i in range(len(source))] == [1, 1]


def test_an_unlabelled_test_folder_gives_way_to_a_labelled_val(labelled):
    write(labelled / "test" / "0.png")
    assert len(open_source(f"folder:{labelled}", "test")) == 4


def test_a_class_that_was_not_trained_on(labelled):
    write(labelled / "val" / "cat" / "0.png")
    with pytest.raises(UserError, match="cat"):
        open_source(f"folder:{labelled}", "test")


@pytest.mark.parametrize(
    "files",
    [
        ["a.png", "b.png"],
        ["train/a.png", "train/b.png"],
        ["train/all/a.png", "train/all/b.png"],
    ],
)
def test_any_tree_is_an_unlabelled_set(tmp_path, files):
    for i, file in enumerate(files):
        write(tmp_path / file, 50 * i)
    source = open_source(f"folder:{tmp_path}")
    assert source.classes is None
    assert shown(source) == [0, 50] and source[0]["label"] == source[1]["label"] == -1
    assert open_source(f"folder:{tmp_path}", "test") is None


def test_suffixes_in_any_case_and_nothing_else(tmp_path):
    names = ["a.JPG", "b.jpeg", "c.Png", "d.webp", "e.WEBP"]
    for name in names:
        write(tmp_path / name.lower()).rename(tmp_path / name)
    for name in ("notes.txt", ".hidden.png", "._a.JPG", "image.png.txt"):
        (tmp_path / name).write_text("not an image")
    write(tmp_path / ".cache" / "f.png")
    assert [os.path.basename(file) for file in open_source(f"folder:{tmp_path}").files] == names


def test_links_are_followed_but_not_in_circles(tmp_path):
    write(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "circle").symlink_to(tmp_path / "set")
    assert len(open_source(f"folder:{tmp_path / 'set'}")) == 1


def test_unreadable_files_are_left_out_each_with_what_is_wrong(labelled):
    bad = damage(labelled / "train" / "ant")
    source = open_source(f"folder:{labelled}")
    names = source.survey.left_out["unreadable"]
    assert {name.split(" (")[0] for name in names} == {f"train/ant/{name}" for name in bad}
    assert "train/ant/text.png (not an image)" in names
    assert source.survey.counts.tolist() == [3, 3] and len(source.survey.sizes) == 6
    assert shown(source) == [0, 1, 2, 100, 101, 102]
    assert [source[i]["label"] for i in range(len(source))] == [0, 0, 0, 1, 1, 1]


def test_in_a_folder_too_large_to_check_the_next_readable_image_stands_in(labelled, monkeypatch):
    monkeypatch.setattr(folder, "CHECKED", 5)
    damage(labelled / "train" / "ant")
    source = open_source(f"folder:{labelled}")
    with pytest.warns(UserWarning, match=r"empty\.jpg is unreadable"):
        examples = [source[i] for i in range(len(source))]
    # 0.png 1.png 2.png, five unreadable ones, then the bees
    assert [int(x["image"].mean()) for x in examples] == [0, 1, 2, 100, 100, 100, 100, 100, 100, 101, 102]
    assert [x["label"] for x in examples] == [0, 0, 0, *[1] * 8]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        assert shown(source) == [0, 1, 2, 100, 100, 100, 100, 100, 100, 101, 102]


def test_masks_are_alpha_channels_and_a_jpg_is_all_that_matters(labelled):
    mask = np.zeros((4, 6), np.uint8)
    mask[1, 2:] = 255
    pixels = np.dstack([np.full((4, 6, 3), 9, np.uint8), mask])
    Image.fromarray(pixels).save(labelled / "train" / "ant" / "0.png")
    write(labelled / "train" / "ant" / "1.png").rename(labelled / "train" / "ant" / "1.jpg")
    source = open_source(f"folder:{labelled}", fields=["mask"])
    assert source[0]["mask"].dtype == source[1]["mask"].dtype == np.uint8
    np.testing.assert_array_equal(source[0]["image"], pixels[..., :3])
    np.testing.assert_array_equal(source[0]["mask"], mask)
    np.testing.assert_array_equal(source[1]["mask"], np.full((4, 6), 255))
    assert open_source(f"folder:{labelled}")[0].keys() == {"image", "label"}
    assert open_source(f"folder:{labelled}", "test", fields=["mask"])[0]["mask"].shape == (4, 6)


def test_jpgs_alone_hold_no_mask(tmp_path):
    for name in ("a.jpg", "b.JPEG"):
        write(tmp_path / name.lower()).rename(tmp_path / name)
    assert len(open_source(f"folder:{tmp_path}")) == 2
    with pytest.raises(
        UserError, match=r"all images in .* are jpg, which cannot have a mask; save them as png with an alpha channel"
    ):
        open_source(f"folder:{tmp_path}", fields=["mask"])


def test_the_last_image_s_stand_in_is_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "CHECKED", 0)
    write(tmp_path / "a.png", 7)
    (tmp_path / "b.png").touch()
    source = open_source(f"folder:{tmp_path}")
    with pytest.warns(UserWarning, match=r"b\.png"):
        assert shown(source) == [7, 7]


@pytest.mark.parametrize("checked", [0, 100])
def test_all_images_unreadable(tmp_path, monkeypatch, checked):
    monkeypatch.setattr(folder, "CHECKED", checked)
    damage(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UserError, match=r"of 5 images of .*none can be read.*empty\.jpg"):
            open_source(f"folder:{tmp_path}")


def test_no_such_folder(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        open_source(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(UserError, match="no folder"):
        open_source(f"folder:{write(tmp_path / 'a.png')}")


@pytest.mark.parametrize("content", [[], ["notes.txt"], ["train/ant/notes.txt"]])
def test_a_folder_without_images(tmp_path, content):
    for name in content:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="no images"):
        open_source(f"folder:{tmp_path}")


def test_a_home_folder_may_be_written_with_a_tilde(labelled, monkeypatch):
    monkeypatch.setenv("HOME", str(labelled.parent))
    assert len(open_source(f"folder:~/{labelled.name}")) == 6


def test_a_source_reaches_worker_processes(labelled):
    source = open_source(f"folder:{labelled}")
    assert shown(pickle.loads(pickle.dumps(source))) == shown(source)
