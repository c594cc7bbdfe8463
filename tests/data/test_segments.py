import numpy as np
import pytest
from PIL import Image

from ssl_jax.data import UNKNOWN, open_source, read
from ssl_jax.errors import UserError


def save(path, pixels, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **how)


@pytest.fixture
def folder(tmp_path):
    """Two training images of 4 x 2 pixels and a test image, with masks of the classes 0 to 3."""
    for name, mask in {
        "train/masks/a": [[0, 1, 2, 255]] * 2,
        "train/masks/b": [[1] * 4] * 2,
        "test/masks/a": [[3]],
    }.items():
        save(tmp_path / f"{name}.png", mask)
        save(tmp_path / f"{name.replace('masks', 'images')}.jpg", np.zeros((*np.shape(mask), 3)))
    return tmp_path


def open_masks(path, split="train"):
    return open_source(f"segments:{path}", split, fields=("segments",))


def test_a_mask_has_the_class_of_each_pixel(folder):
    source, test = open_masks(folder), open_masks(folder, "test")
    assert source.fields["segments"].classes == test.fields["segments"].classes == tuple("0123")
    np.testing.assert_array_equal(source[0]["segments"], [[0, 1, 2, 255]] * 2)
    assert len(source) == 2 and test[0]["segments"].tolist() == [[3]]
    batch = read(source, np.array([0, -1]), 2)["segments"]  # shrunk to 2 x 1, of which no pixel is a mixture
    assert set(batch[0, 0]) <= {0, 1, 2, 255} and (batch[0, 1] == UNKNOWN).all() and (batch[1] == UNKNOWN).all()
    assert open_source(f"segments:{folder}")[0].keys() == {"image", "label"}


def test_colours_of_a_palette_are_not_what_counts(folder):
    image = Image.fromarray(np.uint8([[2, 0, 0, 0]] * 2))
    image.putpalette([255, 0, 0, 0, 255, 0, 9, 9, 9])
    image.save(folder / "train" / "masks" / "a.png")
    np.testing.assert_array_equal(open_masks(folder)[0]["segments"], [[2, 0, 0, 0]] * 2)


def test_classes_have_names(folder):
    (folder / "classes.txt").write_text("sky\nroad\ncar\n tree \n")
    assert open_masks(folder).fields["segments"].classes == ("sky", "road", "car", "tree")
    (folder / "classes.txt").write_text("sky\nroad\ncar\n")
    with pytest.raises(
        UserError,
        match=r"of 1 image of .*none can be used: .*a\.jpg \(its mask has the class 3, but classes\.txt",
    ):
        open_masks(folder, "test")


@pytest.mark.parametrize(
    ("name", "pixels", "how", "fault"),
    [
        ("masks/c.png", [[0]], {}, r"masks/c\.png \(it has no image"),
        ("images/c.png", [[0]], {}, r"images/c\.png \(it has no mask"),
        ("masks/a.png", [[0, 1]], {}, r"images/a\.jpg \(its mask has 2 x 1 pixels, not 4 x 2"),
        ("masks/a.png", np.zeros((2, 4, 3)), {}, r"\(its mask is a PNG of mode RGB, not a grey png"),
        ("masks/a.png", [[0, 1, 2, 255]] * 2, {"format": "JPEG"}, r"\(its mask is a JPEG of mode L, not a grey png"),
    ],
)
def test_images_that_cannot_be_used_are_counted_and_named(folder, name, pixels, how, fault):
    save(folder / "train" / name, pixels, **how)
    with pytest.warns(UserWarning, match=f"1 of . images are broken and left out: .*{fault}"):
        open_masks(folder)


def test_folders_without_use(folder, tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        open_masks(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"there are no images in .*images or no masks in .*masks"):
        open_masks(folder / "train" / "images")
