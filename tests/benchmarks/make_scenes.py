"""Composes scenes of the embedded images, to detect and to segment: `python tests/benchmarks/make_scenes.py OUT`.

Garments lie at random places and scales on a dark canvas with noise, without overlapping. A box holds the pixels of its
garment that are not nearly black. `boxes:OUT` and `segments:OUT` read what it writes; training scenes have training
images, test scenes test images.
"""

import argparse
import json
import pathlib

import numpy as np
from PIL import Image

from ssl_jax.data import open_source

TRIES = 20  # places to look for one that is free
FAINT = 25  # grey level up to which a pixel is not of a garment
DARK = 40  # grey level that no garment is darker than; the canvas is


def cut_out(grey: np.ndarray, side: int) -> np.ndarray:
    """Returns what is not black of an image [h, w], scaled as if the whole image had this side; 0 is not of it."""
    large = np.asarray(Image.fromarray(grey).resize((side, side), Image.Resampling.BILINEAR))
    rows, columns = (np.flatnonzero((large > FAINT).any(axis)) for axis in (1, 0))
    part = large[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.where(part > FAINT, np.maximum(part, DARK), 0).astype(np.uint8)


def compose(source, size: int, most: int, random: np.random.Generator):
    """Returns a scene uint8 [size, size], the class of each pixel plus 1, boxes in pixels and their classes."""
    scene = random.integers(0, DARK // 2) + random.integers(0, DARK // 2, (size, size))
    classes = np.zeros((size, size), np.uint8)
    boxes, labels = [], []
    for _ in range(random.integers(1, most + 1)):
        example = source[int(random.integers(len(source)))]
        part = cut_out(example["image"][..., 0], int(random.integers(size // 4, size // 2)))
        height, width = part.shape
        for _ in range(TRIES):
            top, left = random.integers(0, size - height + 1), random.integers(0, size - width + 1)
            box = [int(left), int(top), int(left + width), int(top + height)]
            if all(box[0] >= b[2] or b[0] >= box[2] or box[1] >= b[3] or b[1] >= box[3] for b in boxes):
                place = np.s_[top : top + height, left : left + width]
                scene[place] = np.where(part > 0, part, scene[place])
                classes[place] = np.where(part > 0, 1 + example["label"], classes[place])
                boxes.append(box)
                labels.append(example["label"])
                break
    return scene.astype(np.uint8), classes, boxes, labels


def make(out: pathlib.Path, train: int, test: int, size: int = 64, most: int = 4, seed: int = 0) -> None:
    """Writes scenes, their tables and their masks."""
    for number, (split, count) in enumerate({"train": train, "test": test}.items()):
        source, random = open_source("embedded:fashion_mnist", split), np.random.default_rng([seed, number])
        for kind in ("images", "masks"):
            (out / split / kind).mkdir(parents=True, exist_ok=True)
        with open(out / f"{split}.jsonl", "w") as table:
            for i in range(count):
                scene, classes, boxes, labels = compose(source, size, most, random)
                name = f"{split}/images/{i:05}.png"
                Image.fromarray(scene).save(out / name)
                Image.fromarray(classes).save(out / split / "masks" / f"{i:05}.png")
                names = [source.classes[label] for label in labels]
                table.write(json.dumps({"image": name, "boxes": boxes, "labels": names}) + "\n")
    (out / "classes.txt").write_text("\n".join(["background", *source.classes]) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--train", type=int, default=2_000, help="training scenes")
    parser.add_argument("--test", type=int, default=500, help="test scenes")
    parser.add_argument("--size", type=int, default=64, help="side in pixels")
    parser.add_argument("--most", type=int, default=4, help="garments of a scene")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    make(args.out, args.train, args.test, args.size, args.most, args.seed)


if __name__ == "__main__":
    main()
