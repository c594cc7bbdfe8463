import numpy as np
import pytest
from PIL import Image

from ssl_jax.data import Integers, fits, image_fields, pack, resident, take, threads
from ssl_jax.data.field import fit, fitted_size
from ssl_jax.data.loader import batches, read, spec
from ssl_jax.data.order import Shuffled
from ssl_jax.data.reading import Reading
from ssl_jax.data.source import open_source
from ssl_jax.data.subset import Subset
from ssl_jax.errors import UserError


class Numbers:
    """Example i is an image of i + 1 rows and 3 columns, all of value i; its label is 2 i."""

    name, classes, fields = "numbers", None, image_fields()

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        return {"image": np.full((i + 1, 3, 3), i, np.uint8), "label": 2 * i}


class Masked(Numbers):
    """Numbers whose mask is their left column, and whose pixels are bright outside it."""

    fields = image_fields(["mask"])

    def __getitem__(self, i):
        example = super().__getitem__(i)
        mask = np.zeros(example["image"].shape[:2], np.uint8)
        mask[:, 0] = 255
        return example | {"image": np.where(mask[:, :, None] > 0, example["image"], np.uint8(250)), "mask": mask}


class Captioned(Numbers):
    """Numbers with two captions of three tokens."""

    fields = image_fields() | {"text": Integers((2, 3), padding=0)}

    def __getitem__(self, i):
        return super().__getitem__(i) | {"text": [[i, i + 1, 0], [i, i + 2, i + 3]]}


def assert_equal(a, b):
    assert len(a) == len(b) > 0
    for x, y in zip(a, b, strict=True):
        assert x.keys() == y.keys() == {"image", "box", "label", "index"}
        for name in x:
            np.testing.assert_array_equal(x[name], y[name])


def test_a_small_image_stands_unscaled_at_the_top_left():
    image = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    canvas = fit(image, 8)
    assert fitted_size(image, 8) == (2, 5) and canvas.shape == (8, 8, 3)
    np.testing.assert_array_equal(canvas[:2, :5], image)
    assert not canvas[2:].any() and not canvas[:, 5:].any()


def test_an_image_of_the_canvas_s_size_is_untouched():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    np.testing.assert_array_equal(fit(image, 8), image)


@pytest.mark.parametrize("shape, box", [((40, 20), (8, 4)), ((20, 40), (4, 8)), ((9, 8), (8, 7)), ((1, 900), (1, 8))])
def test_a_large_image_is_shrunk_to_fit(shape, box):
    image = np.full((*shape, 3), 200, np.uint8)
    canvas = fit(image, 8)
    assert fitted_size(image, 8) == box
    assert (canvas[: box[0], : box[1]] == 200).all() and not canvas[box[0] :].any() and not canvas[:, box[1] :].any()


def test_shrinking_is_antialiased():
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    canvas = fit(np.repeat(checks.astype(np.uint8)[:, :, None], 3, axis=2), 8)
    np.testing.assert_allclose(canvas, 127.5, atol=3)


def test_a_mask_shrinks_like_a_picture_of_its_own():
    mask = np.random.default_rng(0).integers(0, 256, (40, 20), np.uint8)
    shrunk = fit(mask, 8)
    assert shrunk.shape == (8, 8)
    np.testing.assert_array_equal(shrunk, fit(mask[:, :, None].repeat(3, axis=2), 8)[..., 0])


def test_masks_come_beside_the_images(monkeypatch):
    monkeypatch.setattr(threads, "BLOCK", 3)
    data = resident.load_all(Masked(10), 16)
    assert data["image"].shape == (10, 16, 16, 3) and data["mask"].shape == (10, 16, 16)
    assert data["mask"].dtype == np.uint8
    for i in range(10):
        assert (data["mask"][i, : i + 1, 0] == 255).all() and data["mask"][i].sum() == 255 * (i + 1)
        assert (data["image"][i, : i + 1, 1:3] == 250).all()
    for batch in batches(Masked(10), Shuffled(5, 10, 4), 16, 0, 2):
        np.testing.assert_array_equal(batch["mask"], data["mask"][batch["index"]])
        np.testing.assert_array_equal(batch["image"], data["image"][batch["index"]])
    assert not read(Masked(10), np.array([3, -1], np.int32), 16)["mask"][1].any()  # padding
    assert read(Subset(Masked(10), np.array([7])), np.array([0]), 16)["mask"].sum() == 255 * 8
    assert "mask" not in resident.load_all(Numbers(10), 16)


def test_batches_hold_the_examples_that_indices_names():
    for step, batch in enumerate(batches(Numbers(10), Shuffled(5, 10, 4), 16, 0, 5)):
        np.testing.assert_array_equal(batch["index"], Shuffled(5, 10, 4)(step))
        np.testing.assert_array_equal(batch["label"], 2 * batch["index"])
        np.testing.assert_array_equal(batch["box"], [[0, 0, i + 1, 3] for i in batch["index"]])
        np.testing.assert_array_equal(batch["image"].max((1, 2, 3)), batch["index"])
        assert batch["image"].shape == (4, 16, 16, 3) and batch["image"].dtype == np.uint8
        assert {batch[name].dtype for name in ("box", "label", "index")} == {np.dtype("int32")}
    assert step == 4


def test_starting_in_the_middle_continues_exactly():
    whole = list(batches(Numbers(10), Shuffled(0, 10, 4), 16, 0, 9))
    assert_equal(whole[3:], list(batches(Numbers(10), Shuffled(0, 10, 4), 16, 3, 9)))


def test_the_rows_of_all_processes_make_up_the_global_batch():
    whole = list(batches(Numbers(12), Shuffled(0, 12, 6), 16, 0, 4))
    parts = [list(batches(Numbers(12), Shuffled(0, 12, 6), 16, 0, 4, rows)) for rows in np.split(np.arange(6), 3)]
    assert all(batch["index"].shape == (2,) for part in parts for batch in part)
    assert_equal(
        whole, [{k: np.concatenate([b[k] for b in step]) for k in step[0]} for step in zip(*parts, strict=True)]
    )


def test_only_the_rows_asked_for_are_read_wherever_they_are():
    read = []

    class Watched(Numbers):
        def __getitem__(self, i):
            read.append(i)
            return super().__getitem__(i)

    [batch] = batches(Watched(12), Shuffled(0, 12, 6), 16, 0, 1, np.array([1, 2, 5]))
    assert read == batch["index"].tolist() == Shuffled(0, 12, 6)(0)[[1, 2, 5]].tolist()


def test_no_steps_are_no_batches():
    assert list(batches(Numbers(10), Shuffled(0, 10, 4), 16, 5, 5)) == []


def test_an_error_while_reading_reaches_the_caller():
    class Broken(Numbers):
        def __getitem__(self, i):
            raise UserError("the disk is gone")

    with pytest.raises(UserError, match="the disk is gone"):
        next(batches(Broken(10), Shuffled(0, 10, 4), 16, 0, 3))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_change_nothing(workers):
    source = open_source("embedded:fashion_mnist", "test")
    expected = list(batches(source, Shuffled(0, len(source), 32), 28, 0, 5))
    assert_equal(expected, list(batches(source, Shuffled(0, len(source), 32), 28, 0, 5, workers=workers)))


@pytest.mark.slow
def test_worker_processes_share_what_was_decoded(tmp_path):
    for i in range(4):
        Image.new("RGB", (6, 6), (i, i, i)).save(tmp_path / f"{i}.png")
    source = open_source(f"folder:{tmp_path}", reading=Reading(6, 6, host_bytes=10**6))
    for file in tmp_path.iterdir():
        file.unlink()
    (batch,) = batches(source, lambda step: np.arange(4, dtype=np.int32), 6, 0, 1, workers=1)
    assert batch["image"][:, 5, 5, 0].tolist() == [0, 1, 2, 3]


def test_padding_is_black_and_has_no_label():
    batch = read(Numbers(10), np.array([8, 9, -1, -1], np.int32), 16)
    np.testing.assert_array_equal(batch["index"], [8, 9, -1, -1])
    np.testing.assert_array_equal(batch["label"], [16, 18, -1, -1])
    assert not batch["image"][2:].any()
    np.testing.assert_array_equal(batch["box"][2:], [[0, 0, 16, 16]] * 2)


def test_load_all_has_example_i_in_row_i(monkeypatch):
    monkeypatch.setattr(threads, "BLOCK", 3)
    data = resident.load_all(Numbers(10), 16)
    assert data["index"].tolist() == list(range(10)) and data["label"].tolist() == list(range(0, 20, 2))
    for i in range(10):
        image = Numbers(10)[i]["image"]
        np.testing.assert_array_equal(data["image"][i], fit(image, 16))
        np.testing.assert_array_equal(data["box"][i], [0, 0, *fitted_size(image, 16)])


@pytest.mark.parametrize("source", [Numbers(10), Masked(10), Captioned(10)], ids=lambda source: type(source).__name__)
def test_spec_is_what_read_gives(source):
    given = {name: (x.shape, x.dtype) for name, x in read(source, np.array([3, -1, 9], np.int32), 16).items()}
    assert given == {name: (x.shape, x.dtype) for name, x in spec(source, 3, 16).items()}


@pytest.mark.parametrize("source", [Numbers(10), Masked(10), Captioned(10)], ids=lambda source: type(source).__name__)
def test_what_fits_the_budget(source):
    size = sum(array.nbytes for array in resident.load_all(source, 16).values())
    assert fits(source, 16, size) and not fits(source, 16, size - 1)


@pytest.mark.parametrize("source", [Numbers(10), Masked(10), Captioned(10)], ids=lambda source: type(source).__name__)
def test_a_packed_set_gives_what_read_gives(source):
    index = np.array([7, 0, 7], np.int32)
    packed = pack(resident.load_all(source, 16))
    assert all(array.ndim <= 2 for array in packed.values())
    taken, expected = take(packed, index, source, 16), read(source, index, 16)
    assert taken.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(taken[name], array)


def test_a_source_may_have_fields_that_the_loader_does_not_know():
    index = np.array([4, -1], np.int32)
    batch = read(Captioned(10), index, 16)
    assert batch["text"].dtype == np.int32
    assert batch["text"].tolist() == [[[4, 5, 0], [4, 6, 7]], [[0] * 3] * 2]
    assert read(Subset(Captioned(10), np.array([7])), np.array([0]), 16)["text"].tolist() == [[[7, 8, 0], [7, 9, 10]]]
    with pytest.raises(ValueError, match="reshape"):  # not repeated to fit
        Captioned.fields["text"].fit([1, 2, 3], 16)
