"""Speed of reading large photographs on one core: decoded in full, at a reduced size, and in the one pass of a run.

    python tests/benchmarks/photographs.py [--images=24] [--canvas=226] [--width=4000] [--height=3000]

226 pixels are the canvas of SimCLR's recipe for views of 64.
"""

import argparse
import pathlib
import pickle
import shutil
import tempfile
import time
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ssl_jax.data.field import fit
from ssl_jax.data.files import content, size_of
from ssl_jax.data.image import MAX_PIXELS, decode
from ssl_jax.data.reading import Reading
from ssl_jax.data.source import open_source

DISTINCT = 4  # photographs; the others are copies


def make(path: pathlib.Path, size: tuple[int, int], seed: int) -> None:
    """Writes a JPEG of smooth shapes with some grain, which takes about as many bytes as a photograph."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = random.integers(-12, 13, (size[1], size[0], 1))
    Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)).save(path, quality=85)


def speed(read, files: Sequence) -> float:
    """Returns how many files a function reads in a second of one core."""
    began = time.process_time()
    for file in files:
        read(file)
    return len(files) / (time.process_time() - began)


def report(what: str, rate: float) -> None:
    print(f"{what:38} {rate:8.1f} images/s on one core", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 24), ("canvas", 226), ("width", 4000), ("height", 3000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = [str(pathlib.Path(folder, f"{i}.jpg")) for i in range(flags.images)]
        for i, file in enumerate(files):
            if i < DISTINCT:
                make(pathlib.Path(file), (flags.width, flags.height), i)
            else:
                shutil.copy(files[i % DISTINCT], file)
        print(f"{flags.images} JPEGs of {flags.width} x {flags.height}, {len(content(files[0])) / 2**20:.1f} MiB each")
        for what, read in {
            "header only": lambda file: size_of(file, MAX_PIXELS),
            "in full": lambda file: fit(decode(content(file)), flags.canvas),
            "at a reduced size": lambda file: fit(decode(content(file), flags.canvas), flags.canvas),
        }.items():
            report(what, speed(read, files))
        opened = []
        how = Reading(flags.canvas, flags.canvas, host_bytes=2**31)
        passes = speed(lambda _: opened or opened.append(open_source(f"folder:{folder}", reading=how)), files)
        report("headers, checked and kept, at a start", passes)
        copy = pickle.loads(pickle.dumps(opened[0]))  # as a worker process gets it
        report("a worker, of what was kept", speed(lambda i: fit(copy[i]["image"], flags.canvas), range(flags.images)))
        copy.kept = None
        report("a worker, decoded again", speed(lambda i: fit(copy[i]["image"], flags.canvas), range(flags.images)))


if __name__ == "__main__":
    main()
