import gzip
import pathlib
import struct

import numpy as np
import pytest
from benchmarks import make_fashion_mnist

from ssl_jax import data
from ssl_jax.data import captions
from ssl_jax.data.source import open_source
from ssl_jax.errors import UserError


def write_idx(path, array):
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}i", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def idx(tmp_path):
    """Thirty training and twenty test images; every pixel has the value of its image's position."""
    for prefix, count in (("train", 30), ("t10k", 20)):
        images = np.arange(count, dtype=np.uint8)[:, None, None].repeat(3, axis=1).repeat(5, axis=2)
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8) * 3 % 10)
    return tmp_path


@pytest.mark.parametrize("split, least", [("train", 5000), ("test", 1000)])
def test_the_embedded_set_is_balanced_real_images(split, least):
    source = open_source("embedded:fashion_mnist", split)
    counts = np.bincount([source[i]["label"] for i in range(len(source))])
    assert len(source) >= least
    assert counts.tolist() == [len(source) // 10] * 10
    assert len(source.classes) == 10 and source.classes[9] == "Ankle boot"
    image = source[0]["image"]
    assert image.shape == (28, 28, 3) and image.dtype == np.uint8
    assert (image == image[:, :, :1]).all() and image.std() > 30


def test_its_mask_is_what_is_not_black():
    plain, masked = (open_source("embedded:fashion_mnist", "test", fields=fields) for fields in ((), ("mask",)))
    for i in range(20):
        image, mask = plain[i]["image"], masked[i]["mask"]
        np.testing.assert_array_equal(masked[i]["image"], image)
        np.testing.assert_array_equal(mask, 255 * (image[..., 0] > 0))
        assert mask.dtype == np.uint8 and "mask" not in plain[i]
        assert masked[i]["label"] == plain[i]["label"]
        assert 0.1 < np.mean(mask > 0) < 0.95


def test_captions_say_what_class_and_pixels_show():
    source, test = (
        open_source("embedded:fashion_mnist_captions", split, fields=("text",), context=20)
        for split in ("train", "test")
    )
    image = np.full((28, 28), 0, np.uint8)
    image[2:26, 8:20] = 100  # as wide below as above
    assert captions.describe(image, 2, source.sentences)[1] == "a dark pullover with long sleeves"
    image[12:] = 0
    assert captions.describe(image + image, 2, source.sentences)[1] == "a light pullover with short sleeves"
    for i in range(20):
        name = captions.TRAINED.names[source[i]["label"]]
        assert len(source[i]["text"]) == 5 and all(name in text for text in source[i]["text"])
        assert source.fields["text"].fit(source[i]["text"], 28)[:, -1].max() == 0  # none is cut
    seen, held_out = ({text for i in range(500) for text in one[i]["text"]} for one in (source, test))
    assert not seen & held_out
    assert len(test.fields["text"].kinds) == len(test[0]["text"]) == 3
    assert open_source("embedded:fashion_mnist_captions")[0].keys() == {"image", "label"}


def test_labels_belong_to_their_images():
    """Trousers are tall and narrow, bags are wide: the mean images of the classes must show it."""
    source = open_source("embedded:fashion_mnist")
    examples = [source[i] for i in range(len(source))]

    def ink(name):
        return np.mean([x["image"][:, :4].mean() for x in examples if source.classes[x["label"]] == name])

    assert ink("Trouser") < 2 and ink("Bag") > 30


def test_the_licence_is_beside_the_images():
    text = pathlib.Path(data.__file__).with_name("fashion_mnist.LICENSE").read_text()
    assert "The MIT License (MIT) Copyright © [2017] Zalando SE" in text
    assert "above copyright notice and this permission notice" in text


def test_make_takes_the_first_of_every_class_and_repeats_byte_for_byte(idx, tmp_path):
    for name in ("a", "b"):
        make_fashion_mnist.make(idx, tmp_path / f"{name}.npz", train=20, test=10)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["train_images"].shape == (20, 3, 5) and arrays["test_images"].shape == (10, 3, 5)
        assert arrays["train_images"][:, 0, 0].tolist() == list(range(20))
        assert arrays["train_labels"].tolist() == [i * 3 % 10 for i in range(20)]


@pytest.mark.parametrize("train", [15, 0, 40])
def test_make_refuses_a_size_it_cannot_balance(idx, tmp_path, train):
    with pytest.raises(SystemExit, match="evenly"):
        make_fashion_mnist.make(idx, tmp_path / "a.npz", train=train, test=10)


@pytest.mark.parametrize(
    "text, message",
    [
        ("embedded:fashion_mist", "fashion_mnist"),
        ("embeded:fashion_mnist", "embedded"),
        ("fashion_mnist", "embedded:fashion_mnist"),
        ("folder:", "folder:/path"),
        ("", "folder:/path"),
    ],
)
def test_a_misspelt_source_names_the_nearest(text, message):
    with pytest.raises(UserError, match=message):
        open_source(text)


def test_a_source_without_masks():
    with pytest.raises(UserError, match="tfds:cifar10 has no masks; take a folder of png images"):
        open_source("tfds:cifar10", fields=["mask"])
    with pytest.raises(UserError, match=r"unknown field 'masks'.*did you mean 'mask'"):
        open_source("embedded:fashion_mnist", fields=["masks"])
