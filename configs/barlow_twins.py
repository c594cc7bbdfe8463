"""Barlow Twins, Self-Supervised Learning via Redundancy Reduction (Zbontar et al. 2021, arXiv:2103.03230).

python -m ssl_jax.main --config=configs/barlow_twins.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-18, batch 256, 1000 epochs               92.1 linear (solo-learn's table, same recipe)
:imagenet   ResNet-50, batch 2048, 1000 epochs              73.5 linear (authors' README); 7 days on 16 V100 GPUs
"""

from configs import base


def embedded() -> dict:
    return base.embedded_recipe() | {
        "method": {"name": "barlow_twins", "weight": 0.02, "scale": 0.1},
        "network": network(base.small_encoder(), width=512, layers=2),
        "optimizer": base.small_adamw(0.003),
    }


def cifar10() -> dict:
    """The recipe of solo-learn (arXiv:2108.01775), its scripts/pretrain/cifar/barlow.yaml."""
    return {
        "epochs": 1000.0,
        "batch_size": 256,
        "augment": {"recipe": "cifar_asymmetric"},
        "method": {"name": "barlow_twins", "scale": 0.1},
        "network": network({"name": "resnet18", "stem": "3x3"}, width=2048, layers=3),
        "optimizer": base.solo_lars(learning_rate=0.3, weight_decay=1e-4),
    }


def imagenet() -> dict:
    """Section 2.2. The authors' gradients are a sixteenth of the loss's, since they average over 16 GPUs. LARS undoes
    this for weights only; biases and BatchNorm have a learning rate of 0.0048, times that sixteenth."""
    return {
        "epochs": 1000.0,
        "batch_size": 2048,
        "augment": {"recipe": "barlow_twins"},
        "method": {"name": "barlow_twins"},
        "network": network({"name": "resnet50", "zero_gamma": True}, width=8192, layers=3) | {"dtype": "bfloat16"},
        "optimizer": base.wide_lars(rules=SLOW_BIASES),
    }


SLOW_BIASES = (("bias|scale", {"weight_decay": 0.0, "adaptation": False, "learning_rate": 0.0048 / 0.2 / 16}),)


def network(encoder: dict, width: int, layers: int) -> dict:
    """The loss standardises the projection, as a last BatchNorm without parameters would."""
    projector = {"layers": layers, "hidden": width, "output": width}
    return {"encoder": encoder, "projector": projector}


get_config = base.presets(embedded, cifar10, imagenet)
