import json
import pickle
import warnings

import numpy as np
import pytest
from PIL import Image

from ssl_jax.data import read
from ssl_jax.data.source import open_source
from ssl_jax.data.splits import open_splits
from ssl_jax.data.tokenizer import tokenize
from ssl_jax.errors import UserError

CONTEXT = 8


@pytest.fixture
def images(tmp_path):
    """A folder with the images i.png, all pixels of which are 10 i."""
    for i in range(4):
        Image.new("RGB", (6, 4), (10 * i,) * 3).save(tmp_path / f"{i}.png")
    return tmp_path


def open_text(path, split="train"):
    return open_source(f"pairs:{path}", split, fields=("text",), context=CONTEXT)


def shown(source):
    return [(int(x["image"].mean()) // 10, x["text"], x["label"]) for x in map(source.__getitem__, range(len(source)))]


def write_lines(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


def test_a_csv_has_a_row_for_each_caption(images):
    write_lines(
        images / "train.csv", "image,caption,label", "0.png,a cat,pet", '1.png,"a dog, big",pet', "0.png,my cat,"
    )
    source = open_text(images)
    assert shown(source) == [(0, ("a cat", "my cat"), 0), (1, ("a dog, big",), 0)]
    assert source.classes == ("pet",) and list(source.labels) == [0, 0] and len(source) == 2


def test_a_jsonl_has_a_list_of_captions(images):
    rows = {"image": "2.png", "captions": ["two", "zwei"]}, {"image": "0.png", "captions": ["none"]}
    write_lines(images / "train.jsonl", *rows)
    source = open_text(images)
    assert shown(source) == [(2, ("two", "zwei"), -1), (0, ("none",), -1)]
    assert source.classes is None


def test_paths_are_relative_to_the_table_and_a_table_may_be_named(images):
    (images / "lists").mkdir()
    write_lines(images / "lists" / "some.csv", "image,caption", "../3.png,three")
    assert shown(open_text(images / "lists" / "some.csv")) == [(3, ("three",), -1)]
    assert open_text(images / "lists" / "some.csv", "test") is None


def test_a_batch_has_the_tokens_of_all_captions_and_zeros_for_none(images):
    write_lines(images / "train.csv", "image,caption", "0.png,a cat", "1.png,a dog", "0.png,my cat")
    source = open_text(images)
    batch = read(source, np.array([1, 0, -1]), 8)
    assert batch["text"].shape == (3, 2, CONTEXT) and batch["text"].dtype == np.int32
    np.testing.assert_array_equal(batch["text"][1], tokenize(["a cat", "my cat"], CONTEXT))
    np.testing.assert_array_equal(batch["text"][0], [tokenize(["a dog"], CONTEXT)[0], [0] * CONTEXT])
    assert not batch["text"][2].any()


def test_captions_are_read_only_where_they_are_wanted(images):
    write_lines(images / "train.csv", "image,caption", "0.png,a cat")
    assert open_source(f"pairs:{images}")[0].keys() == {"image", "label"}


def test_the_test_split_shares_the_classes(images):
    write_lines(images / "train.csv", "image,caption,label", "0.png,a,x", "1.png,b,y")
    write_lines(images / "test.jsonl", {"image": "2.png", "captions": ["c"], "label": "y"})
    source, test = open_splits(f"pairs:{images}", "auto", None, ("text",), CONTEXT)
    assert test.classes == source.classes == ("x", "y") and shown(test) == [(2, ("c",), 1)]
    write_lines(images / "test.jsonl", {"image": "2.png", "captions": ["c"], "label": "z"})
    with pytest.raises(UserError, match=r"test\.jsonl has classes that the training split lacks: z"):
        open_text(images, "test")


def test_captions_alone_make_a_test_split(images):
    write_lines(images / "train.csv", "image,caption", "0.png,a")
    write_lines(images / "test.csv", "image,caption", "1.png,b")
    for labels in ("auto", "ignored"):
        _, test = open_splits(f"pairs:{images}", labels, None, ("text",), CONTEXT)
        assert shown(test) == [(1, ("b",), -1)]
    assert open_splits(f"pairs:{images}", "auto")[1] is None


def test_broken_rows_are_counted_and_the_first_are_named(images):
    rows = [
        {"image": "0.png", "captions": ["zero"]},
        '{"image": "1.png", ',
        {"image": "nowhere.png", "captions": ["x"]},
        {"image": "1.png", "captions": ["one", " "]},
        {"image": "1.png", "captions": "one"},
        {"captions": ["one"]},
        {"image": "1.png", "captions": []},
        [1, 2],
        {"image": "3.png", "captions": ["three"]},
    ]
    write_lines(images / "train.jsonl", *rows)
    with pytest.warns(UserWarning) as caught:
        source = open_text(images)
    [warning] = caught
    assert "7 of 9 rows are broken and left out" in (said := str(warning.message))
    assert "line 2 (it is no JSON), line 3 (there is no image 'nowhere.png'), line 4 (a caption is empty), ..." in said
    assert shown(source) == [(0, ("zero",), -1), (3, ("three",), -1)]


def test_broken_rows_of_a_csv(images):
    write_lines(images / "train.csv", "image,caption", "0.png", "1.png,one,more", ",two", "2.png,", "3.png,three")
    with pytest.warns(UserWarning, match=r"4 of 5 rows.*line 2 \(it has more or fewer.*line 4 \(it names no image\)"):
        source = open_text(images)
    assert shown(source) == [(3, ("three",), -1)]


def test_an_image_that_cannot_be_decoded(images):
    (images / "4.png").write_text("no image at all")
    write_lines(images / "train.csv", "image,caption", "4.png,four", "1.png,one")
    source = open_text(images)
    assert shown(source) == [(1, ("one",), -1)]


@pytest.mark.parametrize(
    ("name", "lines", "sentence"),
    [
        (
            "train.csv",
            ["image,caption", "x.png,a", "y.png,b"],
            "of 2 rows of .*none can be used: .*line 2 .there is no image 'x.png'",
        ),
        ("train.csv", ["image,caption"], "of 0 rows of .* none can be used"),
        ("train.csv", ["file,text", "0.png,a"], "no column caption and no column image; its first line must name"),
        ("train.jsonl", ["not json"], r"of 1 row of .*none can be used: line 1 \(it is no JSON\)"),
        ("notes.txt", ["0.png a"], "there is no table .*, nor train.csv or train.jsonl in it"),
    ],
)
def test_a_table_without_use(images, name, lines, sentence):
    write_lines(images / name, *lines)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError, match=sentence):
            open_text(images)


def test_other_sources_lack_captions(images):
    with pytest.raises(UserError, match="has no captions; take pairs:/path, a table"):
        open_source(f"folder:{images}", fields=("text",))
    with pytest.raises(UserError, match=r"set data\.source to embedded:fashion_mnist_captions"):
        open_source("embedded:fashion_mnist", fields=("text",))


def test_a_source_reaches_worker_processes(images):
    write_lines(images / "train.csv", "image,caption", "0.png,a cat")
    source = open_text(images)
    assert shown(pickle.loads(pickle.dumps(source))) == shown(source)
