"""MAE, Masked Autoencoders Are Scalable Vision Learners (He et al. 2021, arXiv:2111.06377).

python -m ssl_jax.main --config=configs/mae.py

preset               what                                            expect, and its source
(none)               small ViT on the embedded images, minutes       see docs/benchmarks.md
:cifar10             ViT-S of patch 4, batch 256, 1000 epochs        no published number: solo-learn's recipe
:imagenet            ViT-B/16, batch 4096, 1600 epochs               68.0 linear, 83.6 fine-tuned (authors' README)
:imagenet_vit_large  ViT-L/16, batch 4096, 1600 epochs               75.8 linear, 85.9 fine-tuned (authors' README)

After 800 epochs mmpretrain has 65.1 linear with ViT-B and 73.5 with ViT-L. k-NN shows little of what the features are
worth: after 100 epochs of ViT-B it has 11.2, where a linear classifier has 46.0 (lightly's table).
"""

from configs import base


def embedded() -> dict:
    """Clothes fill the image, so crops are large; the decoder is shallow, features are the mean over the patches."""
    shared = base.embedded_recipe()
    kept = {key: shared["augment"][key] for key in ("mean", "std", "crop", "ratio")}
    return shared | {
        "augment": {"recipe": "mae"} | kept,
        "method": {"name": "mae"},
        "network": {"encoder": base.small_vit() | {"positions": "sincos_columns", "pool": "mean"}},
        "decoder": {"dim": 96, "depth": 2, "heads": 3},
        "optimizer": adamw(1e-3) | {"scaling": "none", "warmup": "1 epochs"},
    }


def cifar10() -> dict:
    """The recipe of solo-learn (arXiv:2108.01775), its scripts/pretrain/cifar/mae.yaml."""
    return {
        "epochs": 1000.0,
        "batch_size": 256,
        "augment": {"recipe": "cifar_reconstruction"},
        "method": {"name": "mae"},
        "network": {"encoder": encoder("vit_small", patch=4, size=32)},
        "optimizer": adamw(2e-4) | {"warmup": "10 epochs"},
    }


def imagenet(name: str = "vit_base") -> dict:
    """Table 8, and 1600 epochs."""
    return {
        "epochs": 1600.0,
        "batch_size": 4096,
        "augment": {"recipe": "mae"},
        "method": {"name": "mae"},
        "network": {"encoder": encoder(name), "dtype": "bfloat16"},
        "optimizer": adamw(1.5e-4) | {"warmup": "40 epochs"},
    }


def imagenet_vit_large() -> dict:
    return imagenet("vit_large")


def encoder(name: str, **options) -> dict:
    """Positions are fixed; of the initial weights, the queries, keys and values are MoCo v3's."""
    return {"name": name, "positions": "sincos_columns", "initializer": "xavier"} | options


def adamw(learning_rate: float) -> dict:
    """The rate is for a batch of 256."""
    return {
        "name": "adamw",
        "learning_rate": learning_rate,
        "betas": (0.9, 0.95),
        "weight_decay": 0.05,
        "rules": base.WEIGHTS_ONLY,
    }


get_config = base.presets(embedded, cifar10, imagenet, imagenet_vit_large=imagenet_vit_large)
