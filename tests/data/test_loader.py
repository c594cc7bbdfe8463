import numpy as np
import pytest

from ssl_jax.data import resident
from ssl_jax.data.loader import batches, fit, ordered
from ssl_jax.data.order import Shuffled
from ssl_jax.data.source import open_source
from ssl_jax.data.subset import Subset
from ssl_jax.errors import UserError


class Numbers:
    """Example i is an image of i + 1 rows and 3 columns, all of value i; its label is 2 i."""

    name, classes, planes = "numbers", None, 3

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        return np.full((i + 1, 3, 3), i, np.uint8), 2 * i


class Masked(Numbers):
    """Numbers whose mask is their left column, and which are bright outside it."""

    planes = 4

    def __getitem__(self, i):
        image, label = super().__getitem__(i)
        mask = np.zeros((*image.shape[:2], 1), np.uint8)
        mask[:, 0] = 255
        return np.concatenate([np.where(mask > 0, image, 250), mask], axis=2), label


def assert_equal(a, b):
    assert len(a) == len(b) > 0
    for x, y in zip(a, b, strict=True):
        assert x.keys() == y.keys() == {"image", "box", "label", "index"}
        for name in x:
            np.testing.assert_array_equal(x[name], y[name])


def test_a_small_image_stands_unscaled_at_the_top_left():
    image = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    canvas, box = fit(image, 8)
    assert box.tolist() == [0, 0, 2, 5] and canvas.shape == (8, 8, 3)
    np.testing.assert_array_equal(canvas[:2, :5], image)
    assert not canvas[2:].any() and not canvas[:, 5:].any()


def test_an_image_of_the_canvas_s_size_is_untouched():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    np.testing.assert_array_equal(fit(image, 8)[0], image)


@pytest.mark.parametrize("shape, box", [((40, 20), (8, 4)), ((20, 40), (4, 8)), ((9, 8), (8, 7)), ((1, 900), (1, 8))])
def test_a_large_image_is_shrunk_to_fit(shape, box):
    canvas, got = fit(np.full((*shape, 3), 200, np.uint8), 8)
    assert got.tolist() == [0, 0, *box]
    assert (canvas[: box[0], : box[1]] == 200).all() and not canvas[box[0] :].any() and not canvas[:, box[1] :].any()


def test_shrinking_is_antialiased():
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    canvas, _ = fit(np.repeat(checks.astype(np.uint8)[:, :, None], 3, axis=2), 8)
    np.testing.assert_allclose(canvas, 127.5, atol=3)


def test_a_mask_shrinks_like_a_picture_of_its_own():
    image = np.random.default_rng(0).integers(0, 256, (40, 20, 4), np.uint8)
    canvas, box = fit(image, 8)
    colours, alone = fit(image[..., :3], 8)
    np.testing.assert_array_equal(canvas[..., :3], colours)  # whatever the mask is
    np.testing.assert_array_equal(canvas[..., 3], fit(image[..., 3:].repeat(3, axis=2), 8)[0][..., 0])
    np.testing.assert_array_equal(box, alone)


def test_masks_come_beside_the_images(monkeypatch):
    monkeypatch.setattr(resident, "CHUNK", 3)
    data = resident.load_all(Masked(10), 16)
    assert data["image"].shape == (10, 16, 16, 3) and data["mask"].shape == (10, 16, 16)
    assert data["mask"].dtype == np.uint8
    for i in range(10):
        assert (data["mask"][i, : i + 1, 0] == 255).all() and data["mask"][i].sum() == 255 * (i + 1)
        assert (data["image"][i, : i + 1, 1:3] == 250).all()
    for batch in batches(Masked(10), Shuffled(5, 10, 4), 16, 0, 2):
        np.testing.assert_array_equal(batch["mask"], data["mask"][batch["index"]])
        np.testing.assert_array_equal(batch["image"], data["image"][batch["index"]])
    assert not list(ordered(Masked(10), 4, 16))[-1]["mask"][2:].any()  # padding
    assert next(ordered(Subset(Masked(10), np.array([7])), 1, 16))["mask"].sum() == 255 * 8
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


def test_the_processes_slices_make_up_the_global_batch():
    whole = list(batches(Numbers(12), Shuffled(0, 12, 6), 16, 0, 4))
    parts = [
        list(batches(Numbers(12), Shuffled(0, 12, 6), 16, 0, 4, process_index=p, process_count=3)) for p in range(3)
    ]
    assert all(batch["index"].shape == (2,) for part in parts for batch in part)
    assert_equal(
        whole, [{k: np.concatenate([b[k] for b in step]) for k in step[0]} for step in zip(*parts, strict=True)]
    )


def test_a_batch_that_the_processes_cannot_share():
    with pytest.raises(UserError, match=r"6.*4 processes"):
        batches(Numbers(12), Shuffled(0, 12, 6), 16, 0, 1, process_count=4)


def test_a_process_reads_its_own_slice_only():
    read = []

    class Watched(Numbers):
        def __getitem__(self, i):
            read.append(i)
            return super().__getitem__(i)

    [batch] = batches(Watched(12), Shuffled(0, 12, 6), 16, 0, 1, process_index=1, process_count=2)
    assert read == batch["index"].tolist() and len(read) == 3


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


def test_ordered_reads_everything_once_and_pads_the_end():
    [first, second, last] = ordered(Numbers(10), 4, 16)
    assert [*first["index"], *second["index"], *last["index"]] == [*range(10), -1, -1]
    np.testing.assert_array_equal(last["label"], [16, 18, -1, -1])
    assert not last["image"][2:].any()
    np.testing.assert_array_equal(last["box"][2:], [[0, 0, 16, 16]] * 2)


def test_ordered_is_shared_by_processes():
    whole = list(ordered(Numbers(10), 4, 16))
    parts = [list(ordered(Numbers(10), 4, 16, process_index=p, process_count=2)) for p in range(2)]
    assert_equal(whole, [{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in zip(*parts, strict=True)])


def test_load_all_has_example_i_in_row_i(monkeypatch):
    monkeypatch.setattr(resident, "CHUNK", 3)
    data = resident.load_all(Numbers(10), 16)
    assert data["index"].tolist() == list(range(10)) and data["label"].tolist() == list(range(0, 20, 2))
    for i in range(10):
        image, box = fit(Numbers(10)[i][0], 16)
        np.testing.assert_array_equal(data["image"][i], image)
        np.testing.assert_array_equal(data["box"][i], box)


def test_what_fits_the_budget():
    assert resident.fits(Numbers(10), 16, 10 * 16 * 16 * 3)
    assert not resident.fits(Numbers(10), 16, 10 * 16 * 16 * 3 - 1)
    assert resident.fits(Masked(10), 16, 10 * 16 * 16 * 4)
    assert not resident.fits(Masked(10), 16, 10 * 16 * 16 * 4 - 1)
