import pickle
import sys

import numpy as np
import pytest

from ssl_jax.data.source import open_source
from ssl_jax.errors import UserError

BUILDER = """
import io
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


class Dots(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
            "id": tfds.features.Text(),
            "extra": tfds.features.ClassLabel(num_classes=3),
            "image": tfds.features.Image(shape=(None, None, 1)),
            "label": tfds.features.ClassLabel(names=["even", "odd"]),
        }))

    def _split_generators(self, download_manager):
        return {"train": self._generate_examples(10), "test": self._generate_examples(4, known=False),
                "validation": self._generate_examples(3)}

    def _generate_examples(self, count, known=True):
        for i in range(count):
            png = io.BytesIO()
            Image.fromarray(np.full((4, 5), 10 * i, np.uint8)).save(png, "png")
            png.seek(0)
            yield i, {"id": str(i), "extra": 0, "image": png, "label": i % 2 if known else -1}


class Words(Dots):
    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"text": tfds.features.Text()}))

    def _split_generators(self, download_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"text": "no image"}


class Captioned(Dots):
    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
            "image/filename": tfds.features.Text(),
            "image": tfds.features.Image(shape=(None, None, 1)),
            "captions": tfds.features.Sequence({"id": np.int64, "text": tfds.features.Text()}),
        }))

    def _split_generators(self, download_manager):
        return {"train": self._generate_examples(3), "val": self._generate_examples(1)}

    def _generate_examples(self, count):
        for i, example in Dots._generate_examples(self, count):
            texts = [{"id": j, "text": f"caption {j} of {i}"} for j in range(i)]
            yield i, {"image/filename": str(i), "image": example["image"], "captions": texts}
"""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Prepares small sets whose builders live in a package of their own, then takes the builders' code away."""
    root = tmp_path_factory.mktemp("tfds")
    (root / "dots_builders.py").write_text(BUILDER)
    sys.path.insert(0, str(root))
    try:
        import dots_builders

        for builder in (dots_builders.Dots, dots_builders.Words, dots_builders.Captioned):
            builder(data_dir=root / "data").download_and_prepare(file_format="array_record")
    finally:
        sys.path.remove(str(root))
    return str(root / "data")


def test_images_and_labels(data_dir):
    source = open_source("tfds:dots", data_dir=data_dir)
    assert len(source) == 10 and source.classes == ("even", "odd")
    examples = [source[i] for i in range(10)]
    assert sorted(int(x["image"].max()) // 10 for x in examples) == list(range(10))
    for example in examples:
        image = example["image"]
        assert image.shape == (4, 5, 3) and image.dtype == np.uint8
        assert example["label"] == image.max() // 10 % 2


def test_a_version_may_be_named(data_dir):
    assert len(open_source("tfds:dots:1.0.0", data_dir=data_dir)) == 10


def test_a_test_split_without_labels_gives_way_to_validation(data_dir):
    source = open_source("tfds:dots", "test", data_dir)
    assert len(source) == 3 and source.classes == ("even", "odd")


def test_reading_needs_no_tensorflow(data_dir):
    open_source("tfds:dots", data_dir=data_dir)[0]
    assert "tensorflow" not in sys.modules


def test_a_source_reaches_worker_processes(data_dir):
    source = open_source("tfds:dots", data_dir=data_dir)
    twin = pickle.loads(pickle.dumps(source))
    for i in range(10):
        np.testing.assert_array_equal(twin[i]["image"], source[i]["image"])
        assert twin[i]["label"] == source[i]["label"]


def test_a_set_without_images(data_dir):
    with pytest.raises(UserError, match=r"words has no images.*text"):
        open_source("tfds:words", data_dir=data_dir)


def test_captions(data_dir):
    source = open_source("tfds:captioned", data_dir=data_dir, fields=("text",), context=10)
    texts = {int(x["image"].max()) // 10: x["text"] for x in map(source.__getitem__, range(3))}
    assert texts == {0: (), 1: ("caption 0 of 1",), 2: ("caption 0 of 2", "caption 1 of 2")}
    tokens = source.fields["text"].fit(texts[2], 8)
    assert [row[0] > 0 for row in tokens.tolist()] == [True, True] and tokens.shape == (2, 10)
    assert len(open_source("tfds:captioned", "test", data_dir, ("text",))) == 1
    assert source[0].keys() - open_source("tfds:captioned", data_dir=data_dir)[0].keys() == {"text"}
    with pytest.raises(UserError, match=r"dots has no captions, its features are .*id"):
        open_source("tfds:dots", data_dir=data_dir, fields=("text",))


@pytest.mark.parametrize(
    "name, message",
    [
        ("cifar10", r"download_and_prepare\(file_format='array_record'\).*\n.*pip install tensorflow"),
        ("cifarr10", "did you mean 'cifar10'"),
        ("imagenet_resized/33x33", "32x32"),
        ("cifar10:99.0.0", "only: "),
        ("cifar10/", "cannot be opened"),
    ],
)
def test_what_cannot_be_opened_is_explained(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        open_source(f"tfds:{name}", data_dir=str(tmp_path))


def test_the_advice_names_the_folder(tmp_path):
    with pytest.raises(UserError, match=f"data_dir='{tmp_path}'"):
        open_source("tfds:cifar10", data_dir=str(tmp_path))
