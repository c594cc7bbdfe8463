"""Any image file's bytes to 8-bit RGB, and to a mask where that is asked for."""

import io

import numpy as np
from PIL import ExifTags, Image

UPRIGHT = {  # what undoes each EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes, masks: bool = False) -> np.ndarray:
    """Decodes a JPEG, PNG or WebP file as a viewer shows it: upright, 8 bits, on white where it is transparent.

    Args:
        data: the file's content.
        masks: whether transparency is no part of the picture but tells what matters in it.

    Returns:
        uint8 [height, width, 3]; with `masks` [height, width, 4]: colours as they are beneath any transparency, and a
        mask, 255 where the image is more than half opaque, else 0.

    Raises:
        Exception: whatever Pillow raises for damaged files, of many types.
    """
    with Image.open(io.BytesIO(data)) as file:
        turn = UPRIGHT.get(_orientation(file))
        image: Image.Image = file if turn is None else file.transpose(turn)
        if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip instead of scaling
            image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
        if masks:
            return _with_mask(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.asarray(image.convert("RGB"))


def _with_mask(image: Image.Image) -> np.ndarray:
    opaque = image if image.has_transparency_data else image.convert("RGB")
    pixels = np.array(opaque.convert("RGBA"))
    pixels[:, :, 3] = np.where(pixels[:, :, 3] > 128, 255, 0)
    return pixels


def _orientation(file: Image.Image) -> int:
    try:
        return file.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF, which need not cost the picture
        return 1
