import io

import numpy as np
import pytest
from PIL import Image

from ssl_jax.data.image import decode, decode_with_mask

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def encode(image, format="png", **options):
    data = io.BytesIO()
    image.save(data, format, **options)
    return data.getvalue()


def colours(mode="RGB"):
    """Three pixels in a row: red, green, blue."""
    return Image.fromarray(np.array([[RED, GREEN, BLUE]], np.uint8)).convert(mode)


@pytest.mark.parametrize("format, options", [("png", {}), ("webp", {"lossless": True})])
def test_colours_come_out_as_they_went_in(format, options):
    assert decode(encode(colours(), format, **options)).tolist() == [[list(RED), list(GREEN), list(BLUE)]]


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_has_three_equal_channels(mode):
    image = Image.fromarray(np.array([[0, 255]], np.uint8)).convert(mode)
    assert decode(encode(image)).tolist() == [[[0] * 3, [255] * 3]]


@pytest.mark.parametrize("values, expected", [([0, 65535], [0, 255]), ([257 * 100, 257 * 100 + 128], [100, 100])])
def test_sixteen_bits_are_scaled_not_clipped(values, expected):
    image = decode(encode(Image.fromarray(np.array([values], np.uint16))))
    assert image.dtype == np.uint8
    assert image[0, :, 0].tolist() == expected


def test_palette():
    assert decode(encode(colours().convert("P", palette=Image.Palette.ADAPTIVE))).tolist() == [
        [[*RED], [*GREEN], [*BLUE]]
    ]


@pytest.mark.parametrize("transparency", [0, bytes([0, 255, 255])], ids=["one colour", "alpha per colour"])
def test_a_palette_s_transparent_colour_is_white(transparency):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    image.putpalette([*RED, *GREEN, *BLUE])
    assert decode(encode(image, transparency=transparency)).tolist() == [[[255] * 3, [*GREEN], [*BLUE]]]


def test_half_transparent_black_is_mid_grey():
    image = Image.fromarray(np.array([[[0, 0, 0, 128]]], np.uint8))
    assert abs(int(decode(encode(image))[0, 0, 0]) - 127) <= 1


@pytest.mark.parametrize("format, options", [("png", {}), ("webp", {"lossless": True, "exact": True})])
def test_a_mask_is_what_is_more_than_half_opaque_and_hides_no_colour(format, options):
    image = Image.fromarray(np.array([[[*RED, 0], [*GREEN, 128], [*BLUE, 129], [*RED, 255]]], np.uint8))
    colours, mask = decode_with_mask(encode(image, format, **options))
    assert colours.tolist() == [[list(RED), list(GREEN), list(BLUE), list(RED)]]
    assert mask.tolist() == [[0, 0, 255, 255]]


@pytest.mark.parametrize(
    "mode, format", [("RGB", "png"), ("L", "png"), ("P", "png"), ("CMYK", "jpeg"), ("RGB", "jpeg")]
)
def test_without_transparency_everything_is_in_the_mask(mode, format):
    data = encode(colours().resize((8, 4)).convert(mode), format)
    image, mask = decode_with_mask(data)
    np.testing.assert_array_equal(image, decode(data))
    np.testing.assert_array_equal(mask, np.full((4, 8), 255))


def test_cmyk():
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    np.testing.assert_allclose(decode(encode(image, "jpeg", quality=95))[4, 4], RED, atol=8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8] = 255  # a white corner at the top left
    stored = {  # how a camera that writes this orientation stores the upright picture
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x),
        7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
        8: lambda x: np.rot90(x, -1),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(encode(Image.fromarray(np.ascontiguousarray(stored)), "jpeg", quality=95, exif=exif))
    assert image.shape == upright.shape
    np.testing.assert_allclose(image.astype(int), upright, atol=8)


@pytest.mark.parametrize(
    "format, exif, shape",
    [
        ("png", b"Exif\0\0garbage", (4, 8, 3)),
        ("webp", b"Exif\0\0garbage", (4, 8, 3)),
        # a sound orientation (6) beside a resolution that cannot be parsed
        (
            "jpeg",
            b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"
            b"\x01\x11\0\x05\0\0\0\x01\0\0\0\x26\0\0\0\0\0\0\x11H\0\0\0\x01",
            (8, 4, 3),
        ),
    ],
)
def test_damaged_exif_does_not_cost_the_image(format, exif, shape):
    assert decode(encode(colours().resize((8, 4)), format, exif=exif)).shape == shape
