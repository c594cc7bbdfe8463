import json
import warnings

import numpy as np
import pytest
from PIL import Image

from ssl_jax.data import open_source, read
from ssl_jax.errors import UserError


@pytest.fixture
def images(tmp_path):
    """A folder with the images a.png and b.png of 20 x 10 pixels."""
    for i, name in enumerate("ab"):
        Image.new("RGB", (20, 10), (10 * i,) * 3).save(tmp_path / f"{name}.png")
    return tmp_path


def write(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


def row(image, boxes, labels):
    return {"image": image, "boxes": boxes, "labels": labels}


def open_boxes(path, split="train"):
    return open_source(f"boxes:{path}", split, fields=("boxes",))


def test_boxes_are_shares_of_their_image_and_a_batch_has_as_many_of_each(images):
    write(
        images / "train.jsonl", row("a.png", [[5, 0, 10, 10], [-3, 5, 40, 10]], ["shirt", "bag"]), row("b.png", [], [])
    )
    source = open_boxes(images)
    assert source.classes is None and source.fields["boxes"].classes == ("bag", "shirt")
    boxes = [[0.25, 0, 0.5, 1, 1], [0, 0.5, 1, 1, 0]]
    np.testing.assert_array_equal(source[0]["boxes"], np.float32(boxes))
    batch = read(source, np.array([1, 0, -1]), 8)  # images are shrunk
    np.testing.assert_array_equal(batch["boxes"], np.float32([np.full((2, 5), -1), boxes, np.full((2, 5), -1)]))
    assert source[1].keys() == {"image", "label", "boxes"} and open_source(f"boxes:{images}")[0].keys() == {
        "image",
        "label",
    }


def test_the_test_split_shares_the_classes_of_the_table(images):
    write(images / "train.jsonl", row("a.png", [[0, 0, 5, 5]] * 2, ["shirt", "bag"]))
    assert open_boxes(images, "test") is None
    write(images / "test.jsonl", row("b.png", [[0, 0, 5, 5]], ["shirt"]))
    assert open_boxes(images, "test")[0]["boxes"][0, 4] == 1
    write(images / "test.jsonl", row("b.png", [[0, 0, 5, 5]], ["coat"]))
    with pytest.raises(UserError, match=r"test\.jsonl has classes that the training split lacks: coat"):
        open_boxes(images, "test")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "it is no JSON"),
        ("[1]", "it is no object"),
        (row("", [], []), "it names no image"),
        (row("nowhere.png", [], []), "there is no image 'nowhere.png'"),
        (row("a.png", [[0, 0, 1, 1]], []), "it has no lists boxes and labels of the same length"),
        (row("a.png", [[0, 0, 1]], ["bag"]), "a box is not four numbers"),
        (row("a.png", [[5, 0, 5, 9]], ["bag"]), r"the box \[5, 0, 5, 9\] holds nothing of its image of 20 x 10 pixels"),
        (row("a.png", [[30, 0, 40, 9]], ["bag"]), r"the box \[30, 0, 40, 9\] holds nothing"),
        (row("a.png", [[0, None, 5, 9]], ["bag"]), r"the box \[0, None, 5, 9\] holds nothing"),
        (row("notes.png", [], []), "not an image"),
    ],
)
def test_broken_rows_are_counted_and_named(images, line, fault):
    (images / "notes.png").write_text("notes")
    write(images / "train.jsonl", row("b.png", [[0, 0, 5, 5]], ["bag"]), line)
    with pytest.warns(UserWarning, match=rf"1 of 2 rows are broken and left out: line 2 \({fault}"):
        assert len(open_boxes(images)) == 1


def test_a_table_without_use(images):
    with pytest.raises(UserError, match=r"there is no table .*, nor train\.jsonl in it; set data\.source=boxes:/path"):
        open_boxes(images)
    write(images / "train.jsonl", row("a.png", [], []))
    with warnings.catch_warnings(), pytest.raises(UserError, match=r"train\.jsonl has no box"):
        open_boxes(images)
    with pytest.raises(UserError, match="has no boxes; take boxes:/path, a table of images and the boxes in them"):
        open_source(f"folder:{images}", fields=("boxes",))
