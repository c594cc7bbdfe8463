"""I-JEPA, Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture (Assran et al. 2023,
arXiv:2301.08243).

python -m ssl_jax.main --config=configs/ijepa.py

preset              what                                            expect, and its source
(none)              small ViT on the embedded images, minutes       see docs/benchmarks.md
:cifar10            ViT-S of patch 4, batch 256, 600 epochs         no published number: the recipe for ImageNet
:imagenet           ViT-B/16, batch 2048, 600 epochs                72.9 linear (Table 1)
:imagenet_vit_huge  ViT-H/14, batch 2048, 300 epochs                79.3 linear (Table 1)
"""

from configs import base

INITIAL = {"initializer": "truncated_normal"}


def embedded() -> dict:
    """A short run needs a target that is fast at first; there are 3 x 3 patches in a target block of 7 x 7."""
    shared = base.embedded_recipe()
    kept = {key: shared["augment"][key] for key in ("mean", "std", "crop", "ratio")}
    return shared | {
        "augment": {"recipe": "ijepa"} | kept,
        "method": {"name": "ijepa", "decay": {"schedule": "linear", "start": 0.99, "end": 1.0}},
        "network": {"encoder": base.small_vit() | positions()},
        "predictor": {"dim": 48, "depth": 3, "heads": 3},
        "optimizer": adamw(1e-3) | {"scaling": "none", "warmup": "1 epochs"},
    }


def cifar10() -> dict:
    return recipe(600.0) | {
        "batch_size": 256,
        "augment": {"recipe": "cifar_reconstruction", "crop": (0.3, 1.0), "flip": 0.0},
        "network": {"encoder": {"name": "vit_small", "patch": 4, "size": 32} | positions()},
        "predictor": {"dim": 192, "depth": 6, "heads": 6},
    }


def imagenet() -> dict:
    """The authors' in1k_vith14_ep300.yaml, with the encoder, predictor and epochs of the paper's ViT-B/16."""
    return recipe(600.0) | {
        "network": {"encoder": {"name": "vit_base"} | positions(), "dtype": "bfloat16"},
        "predictor": {"dim": 384, "depth": 6, "heads": 12} | INITIAL,
    }


def imagenet_vit_huge() -> dict:
    return recipe(300.0) | {
        "network": {"encoder": {"name": "vit_huge"} | positions(), "dtype": "bfloat16"},
        "predictor": {"dim": 384, "depth": 12, "heads": 16} | INITIAL,
    }


def recipe(epochs: float) -> dict:
    """The rates at a batch of 256; the authors' are 1e-3, 2e-4 and 1e-6 at a batch of 2048."""
    return {
        "epochs": epochs,
        "batch_size": 2048,
        "augment": {"recipe": "ijepa"},
        "method": {"name": "ijepa", "decay": {"schedule": "linear", "start": 0.996, "end": 1.0}},
        "optimizer": adamw(1.25e-4) | {"warmup": "40 epochs", "warmup_start": 2.5e-5, "end": 1.25e-7},
    }


def positions() -> dict:
    """Positions are fixed; features are the mean over the patches."""
    return {"pool": "mean", "positions": "sincos_columns"}


def adamw(learning_rate: float) -> dict:
    return {
        "name": "adamw",
        "learning_rate": learning_rate,
        "weight_decay": {"schedule": "cosine", "start": 0.04, "end": 0.4},
        "rules": base.WEIGHTS_ONLY,
    }


get_config = base.presets(embedded, cifar10, imagenet, imagenet_vit_huge=imagenet_vit_huge)
