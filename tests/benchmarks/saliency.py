"""Makes crude saliency masks for CAST: `python tests/benchmarks/saliency.py SOURCE TARGET`.

Every jpeg under SOURCE becomes a png under TARGET whose alpha channel is the mask (data.masks). The authors of CAST use
the masks of a network, DeepUSPS. These are computed from the pixels: what differs from the border of the image and is
near its centre. Look at some before you trust them.
"""

import argparse
import concurrent.futures
import functools
import pathlib

import numpy as np
from PIL import Image

BORDER = 2  # pixels
NOISE = 5.0  # of a colour, of 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path, help="folder of the images")
    parser.add_argument("target", type=pathlib.Path, help="folder of the images with masks; a complete one is kept")
    flags = parser.parse_args()
    complete = flags.target / "complete"
    if not complete.exists():
        files = sorted(flags.source.rglob("*.jp*g"))
        if not files:
            parser.error(f"there are no jpg images below {str(flags.source)!r}")
        with concurrent.futures.ProcessPoolExecutor() as pool:
            write = functools.partial(add_mask, source=flags.source, target=flags.target)
            list(pool.map(write, files, chunksize=500))
        complete.touch()


def add_mask(file: pathlib.Path, source: pathlib.Path, target: pathlib.Path) -> None:
    pixels = np.asarray(Image.open(file).convert("RGB"))
    path = (target / file.relative_to(source)).with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.dstack([pixels, np.uint8(255 * salient(pixels))])).save(path)


def salient(pixels: np.ndarray) -> np.ndarray:
    """Returns where an image [H, W, 3] has colours that its border lacks: bool [H, W].

    The measure is the Mahalanobis distance to the colours of the border, weighted down away from the centre.
    """
    colours = pixels.astype(float)
    inside = np.zeros(colours.shape[:2], bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    border = colours[~inside]
    away = colours - border.mean(0)
    precision = np.linalg.inv(np.cov(border.T) + NOISE**2 * np.eye(3))
    distance = np.sqrt(np.einsum("hwc,cd,hwd->hw", away, precision, away))
    height, width = (np.linspace(-1, 1, n) for n in distance.shape)
    distance *= np.exp(-(height[:, None] ** 2) - width**2)
    return distance > otsu(distance)


def otsu(values: np.ndarray) -> float:
    """Returns the value that splits others into the two groups whose means differ most (Otsu 1979)."""
    ordered = np.sort(values, axis=None)
    low = np.arange(1, len(ordered))
    high = len(ordered) - low
    sums = np.cumsum(ordered)
    gap = sums[:-1] / low - (sums[-1] - sums[:-1]) / high
    return ordered[np.argmax(low * high * gap**2)]


if __name__ == "__main__":
    main()
