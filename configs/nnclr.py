"""NNCLR, With a Little Help from My Friends (Dwibedi et al. 2021, arXiv:2104.14548).

python -m ssl_jax.main --config=configs/nnclr.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-18, batch 256, 1000 epochs               91.9 linear (solo-learn's table, same recipe)
:imagenet   ResNet-50, batch 4096, 1000 epochs              75.4 linear (Table 1)
"""

from configs import base


def embedded() -> dict:
    recipe = base.embedded_recipe()
    return recipe | {
        "method": {"name": "nnclr", "temperature": 0.2, "queue_size": 4096},
        "network": network(base.small_encoder(), layers=2, hidden=512, output=128, predictor=512),
    }


def cifar10() -> dict:
    """The recipe of solo-learn (arXiv:2108.01775), its scripts/pretrain/cifar/nnclr.yaml."""
    encoder = {"name": "resnet18", "stem": "3x3"}
    return {
        "epochs": 1000.0,
        "batch_size": 256,
        "augment": {"recipe": "cifar_asymmetric"},
        "method": {"name": "nnclr", "temperature": 0.2, "queue_size": 65536},
        "network": network(encoder, layers=3, hidden=2048, output=256, predictor=4096),
        "optimizer": base.solo_lars(learning_rate=0.4, weight_decay=1e-5),
    }


def imagenet() -> dict:
    """Section 4.1."""
    encoder = {"name": "resnet50", "zero_gamma": True}
    return {
        "epochs": 1000.0,
        "batch_size": 4096,
        "augment": {"recipe": "simclr"},
        "method": {"name": "nnclr"},
        "network": network(encoder, layers=3, hidden=2048, output=256, predictor=4096) | {"dtype": "bfloat16"},
        "optimizer": {
            "name": "lars",
            "learning_rate": 0.3,  # at a batch of 256
            "warmup": "10 epochs",
            "weight_decay": 1e-6,
            "rules": base.WEIGHTS_ONLY,
        },
    }


def network(encoder: dict, layers: int, hidden: int, output: int, predictor: int) -> dict:
    """Section 3.3: BatchNorm after every layer of the projector, but only after the hidden layer of the predictor."""
    head = {"layers": layers, "hidden": hidden, "output": output, "last_norm": "batch", "last_scale": True}
    return {
        "encoder": encoder,
        "projector": head,
        "predictor": {"hidden": predictor, "output": output},
    }


get_config = base.presets(embedded, cifar10, imagenet)
