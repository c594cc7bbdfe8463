"""Writes the embedded image set, a balanced part of Fashion-MNIST: `python tests/benchmarks/make_fashion_mnist.py`."""

import argparse
import gzip
import pathlib
from typing import Any

import numpy as np

OUT = pathlib.Path(__file__).parents[2] / "ssl_jax" / "data" / "fashion_mnist.npz"
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def read_idx(path: pathlib.Path) -> np.ndarray:
    """Reads a gzipped IDX file of unsigned bytes (http://yann.lecun.com/exdb/mnist)."""
    data = gzip.decompress(path.read_bytes())
    rank = data[3]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(np.frombuffer(data, ">i4", rank, offset=4))


def balanced(images: np.ndarray, labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Keeps the first `count / 10` examples of every class, in their original order."""
    each, rest = divmod(count, len(CLASSES))
    if rest or not 0 < each <= np.bincount(labels).min():
        raise SystemExit(f"{count} images cannot be shared evenly by {len(CLASSES)} classes of {np.bincount(labels)}.")
    keep = np.sort(np.concatenate([np.flatnonzero(labels == c)[:each] for c in range(len(CLASSES))]))
    return images[keep], labels[keep]


def make(folder: pathlib.Path, out: pathlib.Path, train: int, test: int) -> None:
    """Writes `train` and `test` examples of the IDX files in `folder` to the compressed archive `out`."""
    arrays: dict[str, Any] = {"classes": np.array(CLASSES)}
    for split, prefix, count in (("train", "train", train), ("test", "t10k", test)):
        images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
        labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = balanced(images, labels, count)
    np.savez_compressed(out, **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--source",
        type=pathlib.Path,
        default="/usr/share/datasets/fashion-mnist",
        help="folder with the IDX files of the Debian package dataset-fashion-mnist",
    )
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    parser.add_argument("--train", type=int, default=10_000, help="training images")
    parser.add_argument("--test", type=int, default=2_000, help="test images")
    args = parser.parse_args()
    make(args.source, args.out, args.train, args.test)


if __name__ == "__main__":
    main()
