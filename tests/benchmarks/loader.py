"""Speed of the loader alone, beside PyTorch's DataLoader with Pillow and torchvision, on the same JPEGs in one run.

    python tests/benchmarks/loader.py [--images=512] [--width=500] [--height=375] [--canvas=500] [--need=20000]

Ours decodes and fits to the canvas: crops are taken on the device. PyTorch's does the same, or takes a random crop of
224 pixels on the host, as its recipes do. Both have `--workers` processes; with 0, PyTorch reads in the main one, ours
in threads of it. Prints images a second of one core, which are images over the CPU time of all processes, whatever else
the machine does; and the cores that `--need` images a second take. Without torch there are only our rows.
"""

import argparse
import os
import pathlib
import tempfile
import time

import numpy as np
from photographs import make
from PIL import Image

from ssl_jax import data
from ssl_jax.data.field import fit
from ssl_jax.data.image import on_white, upright

BATCH = 64
ROUNDS = 3


class Pillow:
    """Images decoded by Pillow alone, as in PyTorch's ImageFolder, and what is made of each."""

    def __init__(self, files, make):
        self.files, self.make = files, make

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        return self.make(Image.open(self.files[i]).convert("RGB"))


def torch_loaders(files: list[str], canvas: int, workers: int) -> dict:
    """Returns functions that read all files once with PyTorch's DataLoader, by name."""
    try:
        import torch
        from torchvision import transforms
    except ImportError:
        return {}
    torch.set_num_threads(1)
    whole = transforms.Compose([transforms.Resize(canvas - 1, max_size=canvas), transforms.PILToTensor()])
    crop = transforms.Compose([transforms.RandomResizedCrop(224), transforms.PILToTensor()])

    def loader(make):
        return lambda: list(torch.utils.data.DataLoader(Pillow(files, make), BATCH, num_workers=workers))

    return {"PyTorch, whole": loader(whole), "PyTorch, crop of 224": loader(crop)}


def cpu_seconds() -> float:
    """Returns the CPU time of this process and of its finished children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 512), ("width", 500), ("height", 375), ("canvas", 500), ("workers", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--need", type=int, default=20_000, help="images a second that a host has to read")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for i in range(flags.images):
            make(pathlib.Path(folder, f"{i:05}.jpg"), (flags.width, flags.height), i % 64)
        files = sorted(map(str, pathlib.Path(folder).glob("*.jpg")))
        print(f"{flags.images} JPEGs of {flags.width} x {flags.height}, {os.path.getsize(files[0]) / 1000:.0f} kB each")
        source = data.open_source(f"folder:{folder}", reading=data.Reading(flags.canvas))
        order = np.arange(flags.images // BATCH * BATCH).reshape(-1, BATCH)

        def ours():
            for _ in data.batches(source, order.__getitem__, flags.canvas, 0, len(order), workers=flags.workers):
                pass

        def plain():
            for file in files:
                with upright(pathlib.Path(file).read_bytes(), flags.canvas, None) as image:
                    fit(on_white(image), flags.canvas)

        rows = {"ours": ours, "decoded by Pillow, in a loop": plain} | torch_loaders(files, flags.canvas, flags.workers)
        best = dict.fromkeys(rows, np.inf)
        for _ in range(ROUNDS):
            for name, read in rows.items():
                began, wall = cpu_seconds(), time.perf_counter()
                read()
                best[name] = min(best[name], cpu_seconds() - began)
                print(f"  {name}: {flags.images / (time.perf_counter() - wall):.0f} images/s", flush=True)
        for name, seconds in best.items():
            speed = flags.images / seconds
            print(
                f"{name:30} {speed:7.0f} images/s a core; {flags.need:,} images/s take {flags.need / speed:5.1f} cores"
            )


if __name__ == "__main__":
    main()
