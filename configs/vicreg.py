"""VICReg, Variance-Invariance-Covariance Regularization (Bardes et al. 2021, arXiv:2105.04906).

python -m ssl_jax.main --config=configs/vicreg.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-18, batch 256, 1000 epochs               92.1 linear (solo-learn's table, same recipe)
:imagenet   ResNet-50, batch 2048, 1000 epochs              73.2 linear (authors' README)
"""

from configs import base


def embedded() -> dict:
    """Gradients are clipped: most have a norm of 2 to 6, but a rare one of 30 makes the run diverge."""
    recipe = base.embedded_recipe()
    return recipe | {
        "method": {"name": "vicreg"},
        "network": network(base.small_encoder(), width=512, layers=2),
        "optimizer": recipe["optimizer"] | {"clip": 5.0},
    }


def cifar10() -> dict:
    """The recipe of solo-learn (arXiv:2108.01775), its scripts/pretrain/cifar/vicreg.yaml, which does not halve the
    variance term."""
    return {
        "epochs": 1000.0,
        "batch_size": 256,
        "augment": {"recipe": "cifar_symmetric", "crop": (0.2, 1.0), "solarize": 0.1, "blur": 0.0, **gentle()},
        "method": {"name": "vicreg", "variance": 50.0},
        "network": network({"name": "resnet18", "stem": "3x3"}, width=2048, layers=3),
        "optimizer": base.solo_lars(learning_rate=0.3, weight_decay=1e-4),
    }


def imagenet() -> dict:
    """Section 4.2 and the authors' README."""
    return {
        "epochs": 1000.0,
        "batch_size": 2048,
        "augment": {"recipe": "vicreg"},
        "method": {"name": "vicreg"},
        "network": network({"name": "resnet50", "zero_gamma": True}, width=8192, layers=3) | {"dtype": "bfloat16"},
        "optimizer": base.wide_lars(),
    }


def gentle() -> dict:
    """The colours of BYOL."""
    return {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}


def network(encoder: dict, width: int, layers: int) -> dict:
    projector = {"layers": layers, "hidden": width, "output": width, "hidden_bias": True}
    return {"encoder": encoder, "projector": projector}


get_config = base.presets(embedded, cifar10, imagenet)
