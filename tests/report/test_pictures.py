"""Sheets show every pixel of every image where it belongs."""

import numpy as np
from PIL import Image

from ssl_jax.report import pictures

COLORS = [(250, 10, 20), (20, 250, 40), (60, 70, 250), (250, 250, 10)]


def plain(color, height=6, width=6):
    return np.full((height, width, 3), color, np.uint8)


def count(picture, color):
    return int(np.all(np.asarray(picture) == np.array(color, np.uint8)[None, None], axis=-1).sum())


def box(picture, color):
    rows, columns = np.nonzero(np.all(np.asarray(picture) == np.array(color, np.uint8)[None, None], axis=-1))
    return rows.min(), columns.min(), rows.max(), columns.max()


def test_a_sheet_holds_every_image_at_its_scale():
    a, b, c, d = COLORS
    picture = pictures.sheet([[plain(a), plain(b, 3, 4)], [plain(c), plain(d, 3, 4)]], ["original", "view"], scale=5)
    assert picture.mode == "RGB"
    assert [count(picture, color) for color in COLORS] == [900, 300, 900, 300]
    assert box(picture, a)[1] == box(picture, c)[1] < box(picture, b)[1] == box(picture, d)[1]
    assert box(picture, a)[2] < box(picture, c)[0]


def test_a_mosaic_puts_patches_in_rows_with_lines_between():
    patches = np.arange(6.0).reshape(1, 6, 1, 1, 1) / 10 * np.ones((1, 6, 2, 2, 3))
    (picture,) = pictures.mosaic(patches, columns=3)
    assert picture.shape == (5, 8, 3)
    expected = [[0, 0, 10, 1, 1, 10, 2, 2], [10] * 8, [3, 3, 10, 4, 4, 10, 5, 5]]
    np.testing.assert_allclose(10 * picture[1:4, :, 0], expected)


def test_pixels_are_repeated_not_blended():
    image = np.random.default_rng(0).integers(0, 200, (4, 5, 3), np.uint8)
    picture = np.asarray(pictures.sheet([[image]], scale=3))
    expected = image.repeat(3, 0).repeat(3, 1)
    top, left = pictures.GAP, pictures.GAP
    np.testing.assert_array_equal(picture[top : top + 12, left : left + 15], expected)


def test_small_images_are_enlarged_and_large_ones_left_alone():
    both = pictures.sheet([[plain(COLORS[0], 28, 28), plain(COLORS[1], 224, 224)]])
    assert count(both, COLORS[0]) == 84 * 84
    assert count(both, COLORS[1]) == 224 * 224


def test_long_captions_widen_their_column():
    short, long = (pictures.sheet([[plain(COLORS[0])]], [text], scale=1) for text in ("a", "a" * 60))
    assert long.width > short.width > 6


def test_rows_of_different_length_and_grey_images():
    picture = pictures.sheet([[np.full((6, 6), 128, np.uint8)], [plain(COLORS[0]), plain(COLORS[1])]], scale=2)
    assert count(picture, (128, 128, 128)) == 144 and count(picture, COLORS[1]) == 144


def test_frames_tell_right_from_wrong():
    queries = np.stack([plain(COLORS[0])])
    found = np.stack([[plain(COLORS[1]), plain(COLORS[2]), plain(COLORS[3])]])
    picture = pictures.neighbours(queries, found, np.array([1]), np.array([[1, 0, 1]]), ["cat", "dog"], scale=4)
    frame = (24 + 2 * pictures.FRAME) ** 2 - 24**2
    green, red = (Image.new("RGB", (1, 1), name).getpixel((0, 0)) for name in (pictures.RIGHT, pictures.WRONG))
    assert (count(picture, green), count(picture, red)) == (2 * frame, frame)
    left, right = box(picture, red)[1], box(picture, red)[3]
    assert left < box(picture, COLORS[2])[1] and box(picture, COLORS[2])[3] < right
    assert [count(picture, color) for color in COLORS] == [24 * 24] * 4


def test_without_labels_nothing_is_marked():
    picture = pictures.neighbours(np.stack([plain(COLORS[0])]), np.stack([[plain(COLORS[1])]]), scale=4)
    green, red = (Image.new("RGB", (1, 1), name).getpixel((0, 0)) for name in (pictures.RIGHT, pictures.WRONG))
    assert count(picture, green) == count(picture, red) == 0


def test_a_title_is_above_the_captions_and_never_cut():
    plainly, titled = (
        pictures.layout([[pictures.Cell(plain(COLORS[0]))]], ["a"], 1, title) for title in ("", "b" * 50)
    )
    assert titled.height == plainly.height + pictures.LINE and titled.width > 50
    below = np.asarray(titled)[pictures.LINE :, : plainly.width]
    np.testing.assert_array_equal(below[pictures.GAP // 2 :], np.asarray(plainly)[pictures.GAP // 2 :])


def test_levels_are_rounded():
    np.testing.assert_array_equal(pictures.levels(np.array([0, 0.499 / 255, 0.501 / 255, 1])), [0, 0, 1, 255])
