"""SimMIM, A Simple Framework for Masked Image Modeling (Xie et al. 2021, arXiv:2111.09886).

python -m ssl_jax.main --config=configs/simmim.py

preset      what                                            expect, and its source
(none)      small ViT on the embedded images, minutes       see docs/benchmarks.md
:cifar10    ViT-S of patch 4, batch 256, 800 epochs         no published number: the authors' recipe for ImageNet
:imagenet   ViT-B/16, batch 2048, 800 epochs                83.8 fine-tuned (authors' README)

k-NN shows little of what the features are worth: 34.3 on Imagenette (ViT-S, 800 epochs), where MAE has 61.0 (lightly's
table). The authors' vision transformer has relative positions; here they are fixed sine-cosine ones.
"""

from configs import base


def embedded() -> dict:
    """Squares of one patch are a 49th of the image, as the paper's are."""
    shared = base.embedded_recipe()
    kept = {key: shared["augment"][key] for key in ("mean", "std", "crop", "ratio")}
    return shared | {
        "augment": {"recipe": "simmim"} | kept,
        "method": {"name": "simmim", "square": 4},
        "network": {"encoder": base.small_vit() | masked()},
        "optimizer": adamw(1e-3) | {"scaling": "none", "warmup": "1 epochs"},
    }


def cifar10() -> dict:
    encoder = {"name": "vit_small", "patch": 4, "size": 32} | masked()
    return recipe() | {
        "batch_size": 256,
        "augment": {"recipe": "cifar_reconstruction", "crop": (0.67, 1.0)},
        "method": {"name": "simmim", "square": 8},
        "network": {"encoder": encoder},
    }


def imagenet() -> dict:
    """The authors' simmim_pretrain__vit_base__img224__800ep.yaml."""
    encoder = {"name": "vit_base", "drop_path": 0.1, "layer_scale": 0.1} | masked()
    return recipe() | {
        "batch_size": 2048,
        "augment": {"recipe": "simmim"},
        "method": {"name": "simmim"},
        "network": {"encoder": encoder, "dtype": "bfloat16"},
    }


def recipe() -> dict:
    """The rate is that of the authors, 1e-4 at a batch of 512, at a batch of 256."""
    steps = {"schedule": "step", "milestones": ("700 epochs",), "warmup": "10 epochs", "warmup_start": 2.5e-7}
    return {"epochs": 800.0, "optimizer": adamw(5e-5) | steps | {"clip": 5.0}}


def masked() -> dict:
    """A mask token; features are the mean over the patches, as in the authors' fine-tuning."""
    return {"mask_token": True, "pool": "mean", "positions": "sincos_columns"}


def adamw(learning_rate: float) -> dict:
    return {
        "name": "adamw",
        "learning_rate": learning_rate,
        "weight_decay": 0.05,
        "rules": (("bias|scale|token", {"weight_decay": 0.0}),),
    }


get_config = base.presets(embedded, cifar10, imagenet)
