"""SwAV, Swapping Assignments between Views (Caron et al. 2020, arXiv:2006.09882).

python -m ssl_jax.main --config=configs/swav.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-18, batch 256, 1000 epochs               89.2 linear (solo-learn's table, same recipe)
:imagenet   ResNet-50, batch 4096, 800 epochs               75.3 linear (Table 1); 50 h on 64 V100 GPUs
"""

from configs import base


def embedded() -> dict:
    recipe = base.embedded_recipe()
    return recipe | {
        "augment": recipe["augment"] | {"recipe": "swav", "small_views": 2, "small_size": 16, "small_crop": (0.1, 0.4)},
        "method": method(queue_size=1024, queue_from="5 epochs"),
        "network": network(base.small_encoder(), hidden=512, prototypes=300),
        "optimizer": recipe["optimizer"] | {"rules": frozen("1 epochs")},
    }


def cifar10() -> dict:
    """The recipe of solo-learn (arXiv:2108.01775), its scripts/pretrain/cifar/swav.yaml: two views, a queue."""
    return {
        "epochs": 1000.0,
        "batch_size": 256,
        "augment": {"recipe": "cifar_symmetric"},
        "method": method(queue_size=3840, queue_from="50 epochs"),
        "network": network({"name": "resnet18", "stem": "3x3"}, hidden=2048, prototypes=3000),
        "optimizer": base.solo_lars(0.6, 1e-6, rules=(*base.WEIGHTS_ONLY, *frozen("2 epochs"))),
    }


def imagenet() -> dict:
    """The authors' scripts/swav_800ep_pretrain.sh; LARC spares nothing."""
    return {
        "epochs": 800.0,
        "batch_size": 4096,
        "augment": {"recipe": "swav", "small_size": 96},
        "method": method(queue_size=0, queue_from="0 steps"),
        "network": network({"name": "resnet50"}, hidden=2048, prototypes=3000) | {"dtype": "bfloat16"},
        "optimizer": {
            "name": "lars",
            "variant": "larc",
            "scaling": "none",
            "learning_rate": 4.8,
            "warmup": "10 epochs",
            "warmup_start": 0.3,
            "end": 0.0048,
            "weight_decay": 1e-6,
            "rules": frozen("313 steps"),
        },
    }


def method(queue_size: int, queue_from: str) -> dict:
    return {
        "name": "swav",
        "temperature": 0.1,
        "epsilon": 0.05,
        "iterations": 3,
        "queue_size": queue_size,  # images
        "queue_from": queue_from,
    }


def frozen(duration: str) -> tuple:
    """The prototypes stand still at first."""
    return (("predictor", {"freeze": duration}),)


def network(encoder: dict, hidden: int, prototypes: int) -> dict:
    """Crops of one resolution share a pass through the encoder, all crops one through the heads."""
    projector = {"hidden": hidden, "output": 128, "hidden_bias": True, "output_bias": True, "normalize": True}
    head = {"prototypes": prototypes}
    return {"encoder": encoder, "projector": projector, "predictor": head, "passes": "resolution", "dtype": "float32"}


get_config = base.presets(embedded, cifar10, imagenet)
