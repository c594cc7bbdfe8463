"""Decodes any image file to 8-bit RGB, and its alpha channel to a mask."""

import contextlib
import functools
import importlib
import io
import math
from collections.abc import Iterator
from typing import IO

import numpy as np
from PIL import ExifTags, Image

try:
    import simplejpeg
except ImportError:  # where there is no wheel of it, Pillow decodes the same pixels more slowly
    simplejpeg = None  # type: ignore[assignment]

# Those that Pillow, or a plugin of it, reads; it knows many more, which are no pictures or run other programs.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "AVIF", "HEIF", "JPEG2000", "PPM")
MAX_PIXELS = 89_478_485  # Pillow's own limit, a quarter of a gigabyte of RGB
DEPTHS = (8, 10, 12, 14, 16, 24, 32)  # bits of a grey level

Image.MAX_IMAGE_PIXELS = None  # `data.max_pixels` takes its place, which can be raised

UPRIGHT = {  # the operation that undoes each EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
JPEG = b"\xff\xd8\xff"  # how a file of one begins
HEAD = 4096  # bytes of a file; more than the header of most that are not turned
MAY_BE_TURNED = (b"Exif", b"Orientation")  # in a file whose header tells an orientation, in EXIF or XMP
TURNED = (5, 6, 7, 8)  # orientations that swap width and height


class TooLargeError(Exception):
    """An image has more pixels than is allowed."""


@functools.cache
def formats() -> list[str]:
    """Returns those of `FORMATS` that can be read here."""
    Image.init()
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    return [name for name in FORMATS if name in Image.OPEN]


def suffixes() -> tuple[str, ...]:
    """Returns the suffixes of the image files that can be read here, in lower case."""
    known = formats()
    return tuple(sorted(suffix for suffix, name in Image.registered_extensions().items() if name in known))


def decode(data: bytes, least: int | None = None, max_pixels: int | None = None) -> np.ndarray:
    """Decodes an image file as a viewer shows it: upright, in 8 bits, on a white background, of several the first.

    Grey levels of more than 8 bits are scaled, see `grey_levels`.

    Args:
        data: the file's content.
        least: pixels of the longer side that are enough: a larger JPEG may be decoded at a half, a quarter or an eighth
            of its size, which is much faster. None: it is decoded at its size.
        max_pixels: largest number of pixels; None: any.

    Returns:
        uint8 [height, width, 3].

    Raises:
        TooLargeError: if it has more than `max_pixels`.
        Exception: whatever Pillow raises for damaged files, of many types.
    """
    if (pixels := of_plain_jpeg(data, least, max_pixels)) is not None:
        return pixels
    with opened(io.BytesIO(data), max_pixels) as file:
        pixels = of_jpeg(data, file, reduce(file, least))
        return rgb(file) if pixels is None else pixels


def of_plain_jpeg(data: bytes, least: int | None, max_pixels: int | None) -> np.ndarray | None:
    """Returns what `decode` does of a JPEG that is neither turned nor reduced, without Pillow; None for all else.

    Pillow parses the header in Python, with its lock held, for longer than a small image takes to decode.
    """
    header = header_of_plain_jpeg(data)
    if header is None:
        return None
    height, width, colors, _ = header
    if max(height, width) > (least or math.inf) or height * width > (max_pixels or math.inf):
        return None
    try:
        return simplejpeg.decode_jpeg(data) if colors in ("Gray", "YCbCr") else None
    except ValueError:  # damaged, of which Pillow says more
        return None


def header_of_plain_jpeg(data: bytes) -> tuple[int, int, str, str] | None:
    """Returns height, width, colours and their subsampling of a JPEG that is not turned; None for all else."""
    if simplejpeg is None or not data.startswith(JPEG) or any(sign in data for sign in MAY_BE_TURNED):
        return None
    try:
        return simplejpeg.decode_jpeg_header(data)
    except ValueError:  # damaged, or it ends before the header does
        return None


def of_jpeg(data: bytes, file: Image.Image, reduced: bool) -> np.ndarray | None:
    """Returns what `rgb` would of a JPEG, decoded in less time and without Python's lock; None if Pillow has to do it.

    Args:
        data: the file's content.
        file: the same, opened, at the size to decode at.
        reduced: whether that is less than the size of the image.
    """
    if simplejpeg is None or file.format not in ("JPEG", "MPO") or file.mode not in ("L", "RGB"):
        return None
    width, height = file.size if reduced else (0, 0)
    try:
        pixels = simplejpeg.decode_jpeg(data, min_width=width, min_height=height)
    except ValueError:  # damaged, of which Pillow says more
        return None
    turn = UPRIGHT.get(orientation(file))
    return pixels if turn is None else np.asarray(Image.fromarray(pixels).transpose(turn))


def rgb(image: Image.Image) -> np.ndarray:
    """Returns an opened image as `decode` does."""
    return on_white(turned(image))


def on_white(image: Image.Image) -> np.ndarray:
    """Returns an 8-bit image as uint8 [height, width, 3], on a white background."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def decode_with_mask(
    data: bytes, least: int | None = None, max_pixels: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Decodes a file whose alpha channel is a mask of what matters in the image.

    Args:
        data: the file's content.
        least: as in `decode`.
        max_pixels: as in `decode`.

    Returns:
        The colours without transparency, uint8 [height, width, 3], and the mask, uint8 [height, width]: 255 where the
        image is more than half opaque, else 0.

    Raises:
        Exception: as `decode`.
    """
    with upright(data, least, max_pixels) as image:
        opaque = image if image.has_transparency_data else image.convert("RGB")
        pixels = np.asarray(opaque.convert("RGBA"))
    return pixels[:, :, :3], np.where(pixels[:, :, 3] > 128, 255, 0).astype(np.uint8)


def size_of(stream: IO[bytes], max_pixels: int | None = None) -> tuple[int, int]:
    """Returns the width and height of an image, upright, from the header of its file.

    Raises:
        Exception: as `decode`.
    """
    header = header_of_plain_jpeg(stream.read(HEAD))
    if header and header[0] * header[1] <= (max_pixels or math.inf):
        return header[1], header[0]
    stream.seek(0)
    with opened(stream, max_pixels) as file:
        width, height = file.size
        known = file.format != "PNG" or "exif" in file.info  # else Pillow would decode all of it to find one at the end
        return (height, width) if known and orientation(file) in TURNED else (width, height)


@contextlib.contextmanager
def opened(stream: IO[bytes], max_pixels: int | None) -> Iterator[Image.Image]:
    """Opens an image file, of which only the header is read."""
    with Image.open(stream, formats=formats()) as file:
        if max_pixels is not None and math.prod(file.size) > max_pixels:
            raise TooLargeError("{} x {} pixels".format(*file.size))
        yield file


@contextlib.contextmanager
def upright(data: bytes, least: int | None, max_pixels: int | None) -> Iterator[Image.Image]:
    """Opens a file as an 8-bit image, rotated by its EXIF orientation."""
    with opened(io.BytesIO(data), max_pixels) as file:
        reduce(file, least)
        yield turned(file)


def reduce(file: Image.Image, least: int | None) -> bool:
    """Lets an opened JPEG be decoded at a part of its size, see `decode`; returns whether it will be."""
    whole = file.size
    if least and max(whole) > least:
        scale = least / max(whole)
        file.draft(None, (math.ceil(file.width * scale), math.ceil(file.height * scale)))
    return file.size != whole


def turned(file: Image.Image) -> Image.Image:
    """Returns an opened image as an 8-bit image, rotated by its EXIF orientation."""
    image = eight_bits(file) if file.mode.startswith("I") or file.mode == "F" else file
    turn = UPRIGHT.get(orientation(file))
    return image if turn is None else image.transpose(turn)


def eight_bits(file: Image.Image) -> Image.Image:
    """Returns a grey image of more than 8 bits, which Pillow would clip, in 8, with an alpha channel if it has one."""
    values, clear = np.asarray(file), file.info.get("transparency")
    image = Image.fromarray(grey_levels(values))
    if clear is not None:
        image.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return image


def grey_levels(values: np.ndarray) -> np.ndarray:
    """Scales grey levels of any type to 8 bits.

    Whole numbers are scaled from the least depth of 8, 10, 12, 14 or 16 bits that holds all of the image: scanners
    and cameras store 12 bits in 16. Floats from 0 to 1 are scaled from there, others from 0 to 255 are taken as they
    are. Any other range, such as one with negative numbers, is stretched so that its least value is black and its
    largest white. What is not finite is black.

    Args:
        values: [height, width].

    Returns:
        uint8 [height, width].
    """
    whole, finite = np.issubdtype(values.dtype, np.integer), np.isfinite(values)
    low, high = (float(values[finite].min()), float(values[finite].max())) if finite.any() else (0.0, 0.0)
    if low >= 0 and whole:
        low, high = 0, next(2**bits - 1 for bits in DEPTHS if high < 2**bits)
    elif low >= 0 and high <= 255:
        low, high = 0, 1 if high <= 1 else 255
    scaled = (np.where(finite, values, low).astype(np.float64) - low) * (255 / max(high - low, 1e-9))
    return np.round(scaled).astype(np.uint8)


def orientation(file: Image.Image) -> int:
    """Returns the EXIF orientation of a file, 1 (upright) if it has none."""
    try:
        return file.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF; the image itself may be fine
        return 1
