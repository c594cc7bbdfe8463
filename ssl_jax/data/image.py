"""Decodes any image file to 8-bit RGB, and its alpha channel to a mask."""

import contextlib
import io
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image

UPRIGHT = {  # the operation that undoes each EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes) -> np.ndarray:
    """Decodes a JPEG, PNG or WebP file as a viewer shows it: upright, in 8 bits, on a white background.

    Args:
        data: the file's content.

    Returns:
        uint8 [height, width, 3].

    Raises:
        Exception: whatever Pillow raises for damaged files, of many types.
    """
    with Image.open(io.BytesIO(data)) as file:
        return rgb(file)


def rgb(image: Image.Image) -> np.ndarray:
    """Returns an opened image as `decode` does."""
    image = turned(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def decode_with_mask(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Decodes a file whose alpha channel is a mask of what matters in the image.

    Args:
        data: the file's content.

    Returns:
        The colours without transparency, uint8 [height, width, 3], and the mask, uint8 [height, width]: 255 where the
        image is more than half opaque, else 0.

    Raises:
        Exception: as `decode`.
    """
    with upright(data) as image:
        opaque = image if image.has_transparency_data else image.convert("RGB")
        pixels = np.asarray(opaque.convert("RGBA"))
    return pixels[:, :, :3], np.where(pixels[:, :, 3] > 128, 255, 0).astype(np.uint8)


@contextlib.contextmanager
def upright(data: bytes) -> Iterator[Image.Image]:
    """Opens a file as an 8-bit image, rotated by its EXIF orientation."""
    with Image.open(io.BytesIO(data)) as file:
        yield turned(file)


def turned(file: Image.Image) -> Image.Image:
    """Returns an opened image as an 8-bit image, rotated by its EXIF orientation."""
    turn = UPRIGHT.get(orientation(file))
    image: Image.Image = file if turn is None else file.transpose(turn)
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip instead of scaling
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    return image


def orientation(file: Image.Image) -> int:
    """Returns the EXIF orientation of a file, 1 (upright) if it has none."""
    try:
        return file.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF; the image itself may be fine
        return 1
