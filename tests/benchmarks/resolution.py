"""Training at several image sizes on CIFAR-10, ten minutes a row: `python tests/benchmarks/resolution.py --data=DIR`.

SimCLR at 32 pixels alone against {16, 24, 32, 48}: each image at one size, with features of two stages, or with
consistency between sizes; each step at one size; each image at all sizes. The features are compared at 12 to 96
pixels, 8 times apart. It prints a table and writes a plot; `--only` names some rows, and finished runs in `--out` are
only read.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import matplotlib
from cifar10 import SHARED

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SEVERAL = {"resolution.sizes": (16, 24, 32, 48)}
MIXED = {**SEVERAL, "resolution.mode": "mixed"}
ROWS: dict[str, dict] = {
    "32": {"epochs": 4},
    "mixed": {"epochs": 4, **MIXED},
    "mixed, two stages": {"epochs": 4, **MIXED, "network.layers": 2},
    "mixed, consistency": {"epochs": 2, **MIXED, "resolution.consistency": "cosine"},
    "one size a step": {"epochs": 4, **SEVERAL, "resolution.mode": "random"},
    "all sizes": {"epochs": 2, **SEVERAL},
}
SIZES = (12, 16, 24, 32, 48, 64, 96)
COLUMNS = {
    "knn_top1": "k-NN top-1, percent",
    "fixed_bank_top1": "k-NN top-1, bank at 32 pixels, percent",
    "agreement": "same prediction as at 32 pixels, percent",
}


def run(name: str, flags: argparse.Namespace) -> list[dict]:
    """Trains a row if it has not been, and returns its comparison of sizes."""
    workdir = flags.out / name.replace(", ", "-").replace(" ", "-")
    changes = (
        SHARED
        | ROWS[name]
        | {
            "data.source": f"folder:{flags.data}",
            "seed": flags.seed,
            "evaluate.sizes": SIZES,
            "evaluate.bank": 10_000,
            "evaluate.test": 2_000,
            "network.encoder.stem": "3x3/2",
            "network.encoder.layers": (1, 1, 1),
        }
    )
    line = [sys.executable, "-m", "ssl_jax.main", "--config=configs/simclr.py", f"--workdir={workdir}"]
    subprocess.run([*line, *(f"--config.{key}={value}" for key, value in changes.items())], check=True)
    return json.loads((workdir / "evaluations" / "sizes.json").read_text())["rows"]


def plot(rows: dict[str, list[dict]], path: pathlib.Path) -> None:
    """Draws each column over the image size."""
    figure, axes = plt.subplots(1, len(COLUMNS), figsize=(5 * len(COLUMNS), 4), layout="constrained")
    for axis, (column, title) in zip(axes, COLUMNS.items(), strict=True):
        for name, found in rows.items():
            axis.plot([row["size"] for row in found], [row[column] for row in found], marker="o", label=name)
        axis.set(title=title, xlabel="image size, pixels", xscale="log")
        axis.set_xticks(SIZES, [str(size) for size in SIZES], minor=False)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder with train/CLASS/ and test/CLASS/")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/resolution"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    flags = parser.parse_args()
    rows = {name: run(name, flags) for name in flags.only}
    for column, title in COLUMNS.items():
        print(f"\n{title}\n{'trained at':20}" + "".join(f"{size:>7}" for size in SIZES))
        for name, found in rows.items():
            print(f"{name:20}" + "".join(f"{row[column]:7.1f}" for row in found))
    plot(rows, flags.out / "sizes.png")


if __name__ == "__main__":
    main()
