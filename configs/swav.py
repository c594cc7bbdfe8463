"""SwAV, Swapping Assignments between Views (Caron et al. 2020, arXiv:2006.09882).

python -m ssl_jax.main --config=configs/swav.py

preset            what                                            expect, and its source
(none)            small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10          ResNet-18, batch 256, 1000 epochs               89.2 linear (solo-learn's table, same recipe)
:imagenet         ResNet-50, batch 4096, 800 epochs               75.3 linear (Table 1); 50 h on 64 V100 GPUs
:imagenet_bs256   batch 256, 400 epochs                           74.3 linear (authors' README); 15 days on 4 GPUs
:imagenet_2x160   2 views of 160 pixels, 4 of 96, 400 epochs      73.9 linear (the paper's Table 13, without a queue)
:imagenet_2x224   no small crops, 400 epochs                      70.1 linear (authors' README)
:imagenet_w2      ResNet-50 twice as wide, 400 epochs             77.3 linear (authors' README)
:imagenet_w4      four times as wide, batch 2560, 400 epochs      77.9 linear (authors' README)
:imagenet_w5      five times as wide, batch 1536, 400 epochs      78.5 linear (authors' README)

Shorter schedules (authors' README): --config.epochs= 400, 200 or 100 of :imagenet give 74.6, 73.9 and 72.1 linear, 200
of :imagenet_bs256 give 72.7.
"""

from configs import base


def embedded() -> dict:
    """In a short run embeddings are centred and prototypes frozen for long; otherwise all codes stay alike."""
    recipe = base.embedded_recipe()
    return recipe | {
        "augment": recipe["augment"] | {"recipe": "swav", "small_views": 2, "small_size": 16, "small_crop": (0.1, 0.4)},
        "method": {"name": "swav", "queue_size": 1024, "queue_from": "5 epochs"},
        "network": network(base.small_encoder(), hidden=512, prototypes=300, last_norm="batch"),
        "optimizer": recipe["optimizer"] | {"rules": frozen("8 epochs")},
    }


def cifar10() -> dict:
    """The recipe of solo-learn (arXiv:2108.01775), its scripts/pretrain/cifar/swav.yaml: two views, a queue."""
    return {
        "epochs": 1000.0,
        "batch_size": 256,
        "augment": {"recipe": "cifar_symmetric"},
        "method": {"name": "swav", "queue_size": 3840, "queue_from": "50 epochs"},
        "network": network({"name": "resnet18", "stem": "3x3"}, hidden=2048, prototypes=3000),
        "optimizer": base.solo_lars(0.6, 1e-6, rules=(*base.WEIGHTS_ONLY, *frozen("2 epochs"))),
    }


def imagenet() -> dict:
    """The authors' scripts/swav_800ep_pretrain.sh; LARC applies to all parameters."""
    return {
        "epochs": 800.0,
        "batch_size": 4096,
        "augment": {"recipe": "swav", "small_size": 96},
        "method": {"name": "swav"},
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


def imagenet_bs256() -> dict:
    """The authors' scripts/swav_400ep_bs256_pretrain.sh: a queue, which is used once features change less."""
    recipe = imagenet()
    changes = {"learning_rate": 0.6, "warmup": "0 epochs", "warmup_start": 0.0, "end": 0.0006}
    return recipe | {
        "epochs": 400.0,
        "batch_size": 256,
        "method": {"name": "swav", "queue_size": 3840, "queue_from": "15 epochs"},
        "optimizer": recipe["optimizer"] | changes | {"rules": frozen("5005 steps")},
    }


def imagenet_2x224() -> dict:
    """The authors' scripts/swav_400ep_2x224_pretrain.sh: two views, with the crops of recipes without small ones."""
    return imagenet() | {"epochs": 400.0, "augment": two_views()}


def imagenet_2x160() -> dict:
    """The setting of the paper's ablations (appendix A.7, C); the authors' scripts/deepclusterv2_400ep_pretrain.sh has
    the same crops. Features are evaluated at the size of training, by the authors at 224 pixels."""
    return imagenet() | {"epochs": 400.0, "data": {"size": 160}, "augment": ablation_views()}


def imagenet_w2() -> dict:
    """The authors' scripts/swav_RN50w2_400ep_pretrain.sh."""
    return imagenet() | {"epochs": 400.0, "augment": four_small_views(), "network": wide(2.0, hidden=8192)}


def imagenet_w4() -> dict:
    """The authors' scripts/swav_RN50w4_400ep_pretrain.sh."""
    return imagenet_w2() | {
        "batch_size": 2560,
        "augment": four_small_views() | {"crop": (0.08, 1.0), "small_crop": (0.08, 0.14)},
        "method": {"name": "swav", "queue_size": 2560},
        "network": wide(4.0, hidden=8192),
    }


def imagenet_w5() -> dict:
    """The authors' scripts/swav_RN50w5_400ep_pretrain.sh."""
    recipe = imagenet_w2()
    return recipe | {
        "batch_size": 1536,
        "method": {"name": "swav", "queue_size": 1536},
        "network": wide(5.0, hidden=10240),
        "optimizer": recipe["optimizer"] | {"warmup_start": 0.1875, "end": 0.0},
    }


def two_views() -> dict:
    return {"recipe": "swav", "small_views": 0, "crop": (0.08, 1.0)}


def four_small_views() -> dict:
    return {"recipe": "swav", "small_size": 96, "small_views": 4}


def ablation_views() -> dict:
    """Two views cropped as SimCLR's, and four small ones; of 160 and 96 pixels in the paper."""
    return four_small_views() | {"crop": (0.08, 1.0)}


def wide(factor: float, hidden: int) -> dict:
    encoder = {"name": "resnet50", "width": factor}
    return network(encoder, hidden, prototypes=3000) | {"dtype": "bfloat16"}


def frozen(duration: str) -> tuple:
    """An optimiser rule that freezes the prototypes at first."""
    return (("predictor", {"freeze": duration}),)


def network(encoder: dict, hidden: int, prototypes: int, last_norm: str = "none") -> dict:
    """Crops of one resolution share a pass through the encoder, all crops one through the heads."""
    biases = {"hidden_bias": True, "output_bias": True}
    projector = {"hidden": hidden, "output": 128, "last_norm": last_norm, "normalize": True} | biases
    head = {"name": "prototypes", "prototypes": prototypes}
    return {"encoder": encoder, "projector": projector, "predictor": head, "passes": "resolution"}


get_config = base.presets(
    embedded,
    cifar10,
    imagenet,
    imagenet_bs256=imagenet_bs256,
    imagenet_2x160=imagenet_2x160,
    imagenet_2x224=imagenet_2x224,
    imagenet_w2=imagenet_w2,
    imagenet_w4=imagenet_w4,
    imagenet_w5=imagenet_w5,
)
