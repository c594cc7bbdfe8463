"""Accuracy of each method on CIFAR-10 after about 20 CPU minutes: `python tests/benchmarks/cifar10.py --data=DIR`.

Runs each config in its small form on the images in DIR/{train,test}/CLASS/, through the command that users type, and
prints a table. `--only` names some configs; finished runs in `--out` are only read, and stopped ones resume.
Methods that learn from captions have no row: these images have none. For a GPU, `--preset=cifar10 --epochs=100` trains
the published small recipes instead.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import time

# What differs from the embedded images: colours, objects anywhere in the picture, five times as many images.
SHARED = {
    "data.size": 32,
    "augment.crop": (0.2, 1.0),
    "augment.ratio": (0.75, 1.333),
    "augment.brightness": 0.4,
    "augment.contrast": 0.4,
    "augment.saturation": 0.4,
    "augment.hue": 0.1,
    "augment.blur": 0.0,
    "augment.solarize": 0.0,
    "augment.mean": (0.491, 0.482, 0.447),
    "augment.std": (0.247, 0.243, 0.262),
    "network.encoder.stem": "3x3",
    "evaluate.every": "100 epochs",
    "evaluate.bank": 50_000,
}
UNSET = ""
COARSE = {"network.encoder.stem": "3x3/2"}  # steps in a third of the time, for methods that need many epochs
LAB = {"augment.recipe": "cmc", "augment.mean": UNSET, "augment.std": UNSET}
QUICK = {"optimizer.warmup": "0.1 epochs"}
VIT = {"network.encoder.stem": UNSET, "network.encoder.size": 32}  # of 8 x 8 patches
WHOLE = {"data.size": 40, "augment.crop": UNSET, "augment.mean": UNSET, "augment.std": UNSET}  # patches of whole images
TWO_VIEWS = {"augment.small_views": 0, "augment.small_size": UNSET, "augment.small_crop": UNSET}
# By config, with as many epochs as fit the time.
OWN: dict[str, dict] = {
    "barlow_twins": {"epochs": 4},
    "byol": {"epochs": 3},
    "byol_group_norm": {"epochs": 3},
    "cast": {"epochs": 6, "data.source": "folder:OUT/salient"},  # `main` makes it
    "circle": {"epochs": 2, **QUICK},
    "cmc": {"epochs": 10, **COARSE, **LAB, "method.channels": ((0,), (1, 2))},
    "cpc": {"epochs": 6, **WHOLE, **COARSE, **QUICK},
    "cpc_v1": {"epochs": 6, **WHOLE, **COARSE, **QUICK},
    "deepcluster": {"epochs": 10},
    "deepcluster_v2": {"epochs": 10, **COARSE, "augment.small_views": 0},
    "densecl": {"epochs": 8, "method.dense_from": "0.25 epochs", "optimizer.learning_rate": 0.8},
    "dino": {"epochs": 4, **TWO_VIEWS},
    "dinov2": {"epochs": 3, **VIT, **TWO_VIEWS},
    "ibot": {"epochs": 3, **VIT, **TWO_VIEWS},
    "ijepa": {"epochs": 8, **VIT, "augment.crop": (0.3, 1.0)},
    "infomin": {"epochs": 7, **COARSE, "augment.randaugment": 0},
    "instdisc": {"epochs": 12, **COARSE},
    "invaspread": {"epochs": 3},
    "mae": {"epochs": 12, **VIT},
    "moco_v1": {"epochs": 4},
    "moco_v2": {"epochs": 7},
    "moco_v3": {"epochs": 3},
    "multi_similarity": {"epochs": 2, **QUICK},
    "nnclr": {"epochs": 3},
    "proxy_anchor": {"epochs": 2, **QUICK},
    "proxy_nca": {"epochs": 2, **QUICK},
    "ressl": {"epochs": 7},
    "simclr": {"epochs": 4},
    "simclr_v2": {"epochs": 2},
    "simclr_v2_queue": {"epochs": 2},
    "simmim": {"epochs": 6, **VIT, "augment.crop": (0.67, 1.0)},
    "simsiam": {"epochs": 5},
    "supcon": {"epochs": 2, **QUICK},
    "supervised": {"epochs": 4},
    "supervised_info_nce": {"epochs": 2, **QUICK},
    "swav": {
        "epochs": 5,
        "augment.small_views": 0,
        "method.queue_from": "0.1 epochs",
        "optimizer.learning_rate": 1.0,
        "optimizer.rules": (("predictor", {"freeze": "3 epochs"}),),
    },
    "triplet": {"epochs": 2, **QUICK},
    "vicreg": {"epochs": 3},
    "crd": {"epochs": 3, "method.teacher": "OUT/simclr"},  # the run of this table
}


def changes(name: str, flags) -> dict[str, str]:
    """Returns the changes of a row's config: a value for each key, as on the command line."""
    if flags.preset:
        where = {"data.source": f"folder:{flags.data}", "seed": str(flags.seed), "evaluate.every": "0"}
        return where | ({"epochs": str(flags.epochs)} if flags.epochs else {})
    own = {key: str(value).replace("OUT/", f"{flags.out}/") for key, value in OWN[name].items()}
    shared = {"data.source": f"folder:{flags.data}", "seed": flags.seed} | SHARED
    return {key: str(value) for key, value in shared.items()} | own


def run(name: str, flags) -> dict:
    """Trains one config to its end; returns its metrics and its cost."""
    recipe = f"{name}:{flags.preset}" if flags.preset else name
    workdir = flags.out / recipe.replace(":", "-")
    cost = workdir / "cost.json"
    if not cost.exists():
        start, before = time.monotonic(), cpu_seconds()
        command = [sys.executable, "-m", "ssl_jax.main", f"--config={recipe}", f"--workdir={workdir}"]
        command += (f"--config.{key}={value}" for key, value in changes(name, flags).items())
        subprocess.run(command, check=True)
        cost.write_text(json.dumps({"minutes": (time.monotonic() - start) / 60, "cpu": (cpu_seconds() - before) / 60}))
    seen = json.loads(cost.read_text())
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        seen |= json.loads(line)
    return seen


def cpu_seconds() -> float:
    """Returns the CPU seconds of all commands so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of the images")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/cifar10"), help="where the runs live")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preset", help="a preset of each config in place of its small form")
    parser.add_argument("--epochs", type=float, help="epochs of the preset")
    parser.add_argument("--only", nargs="*", choices=OWN, default=list(OWN), metavar="CONFIG", help="these configs")
    flags = parser.parse_args()
    if "cast" in flags.only:
        maker = pathlib.Path(__file__).with_name("saliency.py")
        subprocess.run([sys.executable, maker, flags.data, flags.out / "salient"], check=True)
    runs = {name: run(name, flags) for name in flags.only}
    print("| config | k-NN | linear | random k-NN | random linear | steps | images/s | CPU minutes | minutes |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, seen in runs.items():
        scores = [seen[key] for key in ("knn_top1", "linear_top1", "init_knn_top1", "init_linear_top1")]
        cost = [seen["images_per_second"], seen["cpu"], seen["minutes"]]
        print(f"| {name} |", *(f"{x:.1f} |" for x in scores), f"{seen['step']} |", *(f"{x:.0f} |" for x in cost))
    print(f"raw pixels: k-NN {seen['raw_knn_top1']:.1f}, linear {seen['raw_linear_top1']:.1f}; seed {flags.seed}")


if __name__ == "__main__":
    main()
