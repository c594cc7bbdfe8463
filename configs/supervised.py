"""Supervised learning with cross-entropy: the baseline of all other methods, and a teacher for CRD.

python -m ssl_jax.main --config=configs/supervised.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-18, batch 128, 200 epochs                about 95, the usual figure of this network
:imagenet   ResNet-50, batch 256, 90 epochs                 76.1 without label smoothing (torchvision's first weights)
"""

from configs import base


def embedded() -> dict:
    recipe = base.embedded_recipe()
    return recipe | {
        "augment": recipe["augment"] | {"recipe": "supervised", "solarize": 0.0},
        "method": {"name": "supervised"},
        "network": {"encoder": base.small_encoder()},
    }


def cifar10() -> dict:
    """The usual recipe of CIFAR-10; weak crops replace its shifts by up to four pixels."""
    return {
        "epochs": 200.0,
        "batch_size": 128,
        "augment": {"recipe": "supervised", "crop": (0.6, 1.0)},
        "method": {"name": "supervised"},
        "network": {"encoder": {"name": "resnet18", "stem": "3x3"}},
        "optimizer": {"name": "sgd", "learning_rate": 0.1, "scaling": "none", "weight_decay": 5e-4},
    }


def imagenet() -> dict:
    """The usual recipe of ResNets (He et al. 2015, arXiv:1512.03385, section 3.4), with label smoothing."""
    return {
        "epochs": 90.0,
        "batch_size": 256,
        "augment": {"recipe": "supervised"},
        "method": {"name": "supervised", "smoothing": 0.1},
        "network": {"encoder": {"name": "resnet50"}, "dtype": "bfloat16"},
        "optimizer": base.step_sgd(0.1, 1e-4, ("30 epochs", "60 epochs", "80 epochs")),
    }


get_config = base.presets(embedded, cifar10, imagenet)
