"""MoCo v3, An Empirical Study of Training Self-Supervised Vision Transformers (Chen et al. 2021, arXiv:2104.02057).

python -m ssl_jax.main --config=configs/moco_v3.py

preset                     what                                            expect, and its source
(none)                     small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10                   ResNet-18, batch 256, 1000 epochs               93.1 linear (solo-learn's table, same recipe)
:imagenet                  ResNet-50, batch 4096, 1000 epochs              74.6 linear (authors' CONFIG.md)
:imagenet_vit_small        ViT-S/16, batch 4096, 300 epochs                73.2 linear (authors' CONFIG.md)
:imagenet_vit_base         ViT-B/16, batch 4096, 300 epochs                76.7 linear (authors' CONFIG.md)
:imagenet_vit_conv_small   ViT-S/16 with a convolutional stem              no published number
:vit                       small ViT on the embedded images, minutes       see docs/benchmarks.md

Shorter schedules of :imagenet (authors' CONFIG.md): --config.epochs=300 with --config.optimizer.weight_decay=1e-6 and
--config.method.decay.start=0.99 gives 72.8 linear, and 100 epochs with --config.optimizer.learning_rate=0.6 too 68.9.

The study of instability (section 4): a ViT's patch projection is random and stays so. --config.optimizer.rules="()"
trains it; `gradient_norm/encoder/patch` in the metrics, the norm of its gradient, then jumps where training is about to
fail in part.
"""

from configs import base

FROZEN = (("encoder/patch", {"learning_rate": 0.0}),)  # the patch projection (section 4.2)


def embedded() -> dict:
    return base.embedded_recipe() | {
        "method": method(0.9),
        "network": network(base.small_encoder(), hidden=512, output=128),
    }


def vit() -> dict:
    encoder = transformer("vit_tiny", patch=4, size=28, dim=96, depth=4, heads=4)
    return embedded() | {
        "epochs": 12.0,
        "network": network(encoder, hidden=512, output=128),
        "optimizer": base.small_adamw(1e-3) | {"weight_decay": 0.1, "rules": FROZEN},
        "log": {"gradients": ("encoder/patch",)},
    }


def cifar10() -> dict:
    """The recipe of solo-learn (arXiv:2108.01775), its scripts/pretrain/cifar/mocov3.yaml."""
    return {
        "epochs": 1000.0,
        "batch_size": 256,
        "augment": {"recipe": "cifar_asymmetric"},
        "method": method(0.99),
        "network": network({"name": "resnet18", "stem": "3x3"}, hidden=4096),
        "optimizer": base.solo_lars(learning_rate=0.3, weight_decay=1e-6),
    }


def imagenet() -> dict:
    """The authors' code for 1000 epochs."""
    return {
        "epochs": 1000.0,
        "batch_size": 4096,
        "augment": {"recipe": "moco_v3", "crop": (0.2, 1.0)},
        "method": method(0.996) | {"temperature": 1.0},
        "network": network({"name": "resnet50", "zero_gamma": True}, hidden=4096) | {"dtype": "bfloat16"},
        "optimizer": {
            "name": "lars",
            "learning_rate": 0.3,  # at a batch of 256
            "warmup": "10 epochs",
            "weight_decay": 1.5e-6,
            "rules": base.WEIGHTS_ONLY,
        },
    }


def imagenet_vit_small() -> dict:
    """Section 4.3 and the authors' code, whose ViT-S has 12 heads; weight decay applies to all parameters."""
    return {
        "epochs": 300.0,
        "batch_size": 4096,
        "augment": {"recipe": "moco_v3"},
        "method": method(0.99),
        "network": network(transformer("vit_small", heads=12), hidden=4096) | {"dtype": "bfloat16"},
        "optimizer": {
            "name": "adamw",
            "learning_rate": 1.5e-4,  # at a batch of 256
            "warmup": "40 epochs",
            "weight_decay": 0.1,
            "rules": FROZEN,
        },
        "log": {"gradients": ("encoder/patch",)},
    }


def imagenet_vit_base() -> dict:
    network = imagenet_vit_small()["network"]
    return imagenet_vit_small() | {"network": network | {"encoder": transformer("vit_base")}}


def imagenet_vit_conv_small() -> dict:
    """The authors' vit_conv_small: a block less, and a stem that is trained."""
    recipe = imagenet_vit_small()
    encoder = transformer("vit_small", heads=12, stem="conv", depth=11)
    return recipe | {
        "network": recipe["network"] | {"encoder": encoder},
        "optimizer": recipe["optimizer"] | {"rules": ()},
        "log": {"gradients": ("encoder/stem/conv1",)},
    }


def method(decay: float) -> dict:
    return {"name": "moco_v3", "decay": {"schedule": "cosine", "start": decay, "end": 1.0}}


def transformer(name: str, **changes) -> dict:
    """An encoder with fixed positions, and the initialisation of the authors' code."""
    return {"name": name, "positions": "sincos_rows", "initializer": "xavier", "token_std": 1e-6} | changes


def network(encoder: dict, hidden: int, output: int = 256) -> dict:
    """Heads as in the authors' code: a BatchNorm ends the projector, and with a ViT, whose is deeper, the predictor."""
    vit = encoder["name"].startswith("vit")
    return {
        "encoder": encoder,
        "projector": {"layers": 3 if vit else 2, "hidden": hidden, "output": output, "last_norm": "batch"},
        "predictor": {"hidden": hidden, "output": output, "last_norm": "batch" if vit else "none"},
    }


get_config = base.presets(
    embedded,
    cifar10,
    imagenet,
    imagenet_vit_small=imagenet_vit_small,
    imagenet_vit_base=imagenet_vit_base,
    imagenet_vit_conv_small=imagenet_vit_conv_small,
    vit=vit,
)
