"""Speed of reading large photographs on one core, decoded in full and at a reduced size.

    python tests/benchmarks/photographs.py [--images=24] [--canvas=226] [--width=4000] [--height=3000]

226 pixels are the canvas of SimCLR's recipe for views of 64.
"""

import argparse
import pathlib
import tempfile
import time

import numpy as np
from PIL import Image

from ssl_jax.data.field import fit
from ssl_jax.data.files import content, size_of
from ssl_jax.data.image import MAX_PIXELS, decode


def make(path: pathlib.Path, size: tuple[int, int], seed: int) -> None:
    """Writes a JPEG of smooth shapes with some grain, which takes about as many bytes as a photograph."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = random.integers(-12, 13, (size[1], size[0], 1))
    Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)).save(path, quality=85)


def speed(read, files: list[str]) -> float:
    """Returns how many files a function reads in a second of one core."""
    began = time.process_time()
    for file in files:
        read(file)
    return len(files) / (time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 24), ("canvas", 226), ("width", 4000), ("height", 3000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = [str(pathlib.Path(folder, f"{i}.jpg")) for i in range(flags.images)]
        for i, file in enumerate(files):
            make(pathlib.Path(file), (flags.width, flags.height), i % 4)
        print(f"{flags.images} JPEGs of {flags.width} x {flags.height}, {len(content(files[0])) / 2**20:.1f} MiB each")
        for what, read in {
            "header only": lambda file: size_of(file, MAX_PIXELS),
            "in full": lambda file: fit(decode(content(file)), flags.canvas),
            "at a reduced size": lambda file: fit(decode(content(file), flags.canvas), flags.canvas),
        }.items():
            print(f"{what:18} {speed(read, files):8.1f} images/s on one core")


if __name__ == "__main__":
    main()
