"""What is said of a folder before training, and the images that are held out of it."""

import numpy as np
import pytest
from PIL import Image

from ssl_jax.data import describe, open_splits, survey
from ssl_jax.data.files import OTHER
from ssl_jax.data.reading import Reading
from ssl_jax.errors import UserError


def write(folder, count=10, size=(6, 4), ext="png"):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", size, (i,) * 3).save(folder / f"{i}.{ext}")


READING = Reading(8, 4)


def said(folder, labels="auto", share=0.0, reading=READING):
    source, test = open_splits(f"folder:{folder}", labels, share=share, reading=reading)
    return describe(source, test, labels, reading.canvas(source.survey.largest))


def test_two_labelled_splits(tmp_path):
    for split, count in (("Train", 10), ("valid", 5)):
        for label in "ab":
            write(tmp_path / split / label, count)
    assert said(tmp_path) == [
        f"20 images of 2 classes (a, b; 10 each) from folder:{tmp_path} (Train/), 6 x 4 pixels",
        "evaluated on 10 test images (valid/): k-NN and linear accuracy",
    ]
    assert said(tmp_path, "ignored")[1] == "evaluated on nothing: evaluate.labels is ignored"


def test_an_unlabelled_folder_of_several_sizes(tmp_path):
    write(tmp_path, 3)
    write(tmp_path / "more", 1, size=(10, 20))
    first, second = said(tmp_path)
    assert first == f"4 images without labels from folder:{tmp_path}, 6 x 4 to 10 x 20 pixels, read at up to 8"
    assert second.startswith("evaluated on nothing: there are no labels")


def test_class_folders_without_a_split_are_offered_one(tmp_path):
    for label in "ab":
        write(tmp_path / label)
    assert "--config.data.split=0.1 holds out" in said(tmp_path)[1]
    first, second = said(tmp_path, share=0.2)
    assert first.startswith("16 images of 2 classes (a, b; 8 each)")
    assert second == "evaluated on 4 test images: k-NN and linear accuracy"


def test_what_was_left_out_is_counted_by_its_reason(tmp_path):
    for label in "ab":
        write(tmp_path / label)
    write(tmp_path / "b", 1, size=(9, 9), ext="bmp")
    (tmp_path / "a" / "bad\n.jpg").touch()
    for name in ("a/x.heic", "a/y.heic", "notes.txt", "README", ".DS_Store"):
        (tmp_path / name).touch()
    lines = said(tmp_path, reading=Reading(8, 4, max_pixels=80))[2:]
    assert sorted(lines) == [
        "left out 1 (hidden): .DS_Store",
        f"left out 1 (more than 80 pixels, set data.max_pixels to take them): {tmp_path.name}/b/0.bmp (9 x 9 pixels)",
        f"left out 1 (unreadable): {tmp_path.name}/a/bad\\n.jpg (not an image)",
        "left out 4 (other kinds): 2 .heic, 1 without suffix, 1 .txt (pip install pillow-heif to read these)",
    ]


def test_many_names_and_classes_are_cut_short():
    assert survey.examples("hidden", list("abcd")) == "a, b, c, ..."
    assert survey.examples(OTHER, [f"{i}.txt" for i in range(1500)]) == "1,500 .txt"


def test_a_hold_out_has_the_same_share_of_each_class_and_never_changes(tmp_path):
    for label, count in (("a", 20), ("b", 10), ("c", 2), ("d", 1)):
        write(tmp_path / label, count)
    (source, test), again = (open_splits(f"folder:{tmp_path}", "auto", share=0.2) for _ in range(2))
    assert np.bincount(test.labels, minlength=4).tolist() == [4, 2, 1, 0] == test.survey.counts.tolist()
    assert np.bincount(source.labels).tolist() == [16, 8, 1, 1]
    names = [{name for name, _ in part.listing} for part in (source, test)]
    assert len(names[0] | names[1]) == 33 and not names[0] & names[1]
    assert again[1].listing == test.listing


@pytest.mark.parametrize(
    ("folders", "sentence"),
    [
        (["x"], "has no labels, which evaluation needs; sort its images into CLASS/ folders"),
        (["train/a", "train/b", "test/a", "test/b"], "has a test split of its own; set data.split=0"),
    ],
)
def test_what_cannot_be_held_out(tmp_path, folders, sentence):
    for name in folders:
        write(tmp_path / name, 2)
    with pytest.raises(UserError, match=f"data.split is 0.1, but .*{sentence}"):
        open_splits(f"folder:{tmp_path}", "auto", share=0.1)


def test_progress_is_shown_when_it_takes_long(tmp_path, monkeypatch, capsys):
    write(tmp_path, 3)
    monkeypatch.setattr("ssl_jax.data.decoding.QUIET", -1)
    said(tmp_path)
    assert f"reading the images of folder:{tmp_path}: 1 of 3, " in capsys.readouterr().out


def test_a_class_whose_images_cannot_be_read_is_named(tmp_path):
    for label in "ab":
        write(tmp_path / label)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "0.png").touch()
    lines = said(tmp_path)
    assert "3 classes (a 10, b 10, c 0)" in lines[0]
    assert "note: no image of c can be read" in lines


def test_class_folders_beside_a_test_split(tmp_path):
    for label in "ab":
        write(tmp_path / label, 3)
        write(tmp_path / "test" / label, 1)
    first, second = said(tmp_path)
    assert first.startswith("6 images of 2 classes (a, b; 3 each)")
    assert second == "evaluated on 2 test images (test/): k-NN and linear accuracy"
