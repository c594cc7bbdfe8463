import io

import numpy as np
import pytest
from PIL import Image

from ssl_jax.data.image import TooLargeError, decode, decode_with_mask, on_white, size_of, suffixes, upright

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


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 65535], [0, 255]),
        ([257 * 100, 257 * 100 + 128], [100, 100]),
        ([0, 16383, 8192], [0, 255, 128]),  # 14 bits
        ([0, 4095, 2048], [0, 255, 128]),  # 12, as X-rays have
        ([0, 1023, 512], [0, 255, 128]),
        ([0, 255, 100], [0, 255, 100]),
        ([0, 0, 0], [0, 0, 0]),
    ],
)
@pytest.mark.parametrize("format", ["png", "tiff"])
def test_more_than_eight_bits_are_scaled_by_the_depth_that_they_use(format, values, expected):
    image = decode(encode(Image.fromarray(np.array([values], np.uint16)), format))
    assert image.dtype == np.uint8
    assert image[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([-1000.0, 0.0, 1000.0], [0, 128, 255]),
        ([0.0, 500.0, 1000.0], [0, 128, 255]),
        ([np.nan, 0.5, np.inf], [0, 128, 0]),
        ([-7.0, -7.0, -7.0], [0, 0, 0]),
    ],
)
def test_floats_are_scaled_by_their_range(values, expected):
    image = decode(encode(Image.fromarray(np.array([values], np.float32)), "tiff"))
    assert image[0, :, 0].tolist() == expected


def test_signed_numbers_are_stretched():
    image = decode(encode(Image.fromarray(np.array([[-1024, 0, 1024]], np.int32)), "tiff"))
    assert image[0, :, 0].tolist() == [0, 128, 255]


def test_the_transparent_grey_of_sixteen_bits_is_white():
    data = encode(Image.fromarray(np.array([[0, 4095, 9]], np.uint16)), transparency=9)
    assert decode(data)[0, :, 0].tolist() == [0, 255, 255]
    assert decode_with_mask(data)[1].tolist() == [[255, 255, 0]]


@pytest.mark.parametrize("format, options", [("gif", {}), ("webp", {"lossless": True}), ("png", {}), ("tiff", {})])
def test_the_first_of_several_pictures_counts(format, options):
    first, *others = (Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN, BLUE))
    assert decode(encode(first, format, save_all=True, append_images=others, **options))[0, 0].tolist() == list(RED)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "jfif", "png", "webp", "tif", "tiff", "bmp", "gif", "avif"])
def test_what_pillow_reads_is_an_image(suffix):
    assert f".{suffix}" in suffixes()
    data = encode(Image.new("RGB", (8, 8), RED), Image.registered_extensions()[f".{suffix}"])
    np.testing.assert_allclose(decode(data)[4, 4], RED, atol=4)


def test_films_and_programs_are_no_images():
    assert not {".eps", ".ps", ".mpg", ".h5", ".pdf", ".txt"} & set(suffixes())


def test_a_limit_of_pixels():
    data = encode(Image.new("1", (50, 40)))
    assert decode(data, max_pixels=2000).shape == (40, 50, 3)
    with pytest.raises(TooLargeError, match="50 x 40 pixels"):
        decode(data, max_pixels=1999)


def test_the_header_says_the_size_where_the_orientation_comes_late():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.new("RGB", (30, 10)), "jpeg", exif=exif)
    filler = b"\xff\xe5" + (8192).to_bytes(2, "big") + bytes(8190)  # a segment of a camera
    data = data[:2] + filler + data[2:]
    assert size_of(io.BytesIO(data)) == decode(data).shape[1::-1] == (10, 30)


@pytest.mark.parametrize(("orientation", "size"), [(1, (30, 10)), (3, (30, 10)), (6, (10, 30)), (8, (10, 30))])
def test_the_header_says_the_size_that_decoding_gives(orientation, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.new("RGB", (30, 10)), "jpeg", exif=exif)
    assert size_of(io.BytesIO(data)) == decode(data).shape[1::-1] == size
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (10, 30, 3), np.uint8))
    png = encode(noise, exif=exif)
    assert size_of(io.BytesIO(png[: len(png) // 2])) == size  # the rest is not read


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


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("least", [None, 90, 20])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"exif": 1}, {"exif": 6}])
def test_the_fast_decoder_of_jpegs_gives_what_pillow_gives(mode, least, options):
    pytest.importorskip("simplejpeg")
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (14, 25, 3), np.uint8)
    image = Image.fromarray(pixels).resize((251, 137), Image.Resampling.BICUBIC).convert(mode)
    if "exif" in options:
        exif = Image.Exif()
        exif[0x0112] = options["exif"]  # the orientation
        options = {"exif": exif}
    data = encode(image, "jpeg", **options)
    with upright(data, least, None) as plain:
        np.testing.assert_array_equal(decode(data, least), on_white(plain))


def test_a_jpeg_that_ends_early_is_no_image():
    with pytest.raises(OSError, match="truncated"):
        decode(encode(Image.fromarray(np.zeros((64, 64, 3), np.uint8)), "jpeg")[:-40])
