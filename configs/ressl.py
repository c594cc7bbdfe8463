"""ReSSL, Relational Self-Supervised Learning (Zheng et al. 2021, arXiv:2107.09282).

python -m ssl_jax.main --config=configs/ressl.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-18, batch 256, 200 epochs                90.2 linear (Table 3)
:imagenet   ResNet-50, batch 256, 200 epochs                69.9 linear (authors' README)

The student's views are augmented as MoCo v2's, the target's is only cropped and flipped: `augment.one_branch`.
"""

from configs import base


def embedded() -> dict:
    recipe = base.embedded_recipe()
    return recipe | {
        "augment": recipe["augment"] | {"one_branch": True},
        "method": {"name": "ressl", "decay": 0.97, "queue_size": 4096},
        "network": network(base.small_encoder(), {"hidden": 512, "output": 128}),
    }


def cifar10() -> dict:
    """Section 4.1, small data sets."""
    return {
        "epochs": 200.0,
        "batch_size": 256,
        "augment": {"recipe": "moco_v2", "one_branch": True, "blur": 0.0},
        "method": {"name": "ressl", "decay": 0.99, "queue_size": 4096},
        "network": network({"name": "resnet18", "stem": "3x3"}, {"hidden": 512, "output": 128}),
        "optimizer": sgd(learning_rate=0.06) | {"weight_decay": 5e-4},
    }


def imagenet() -> dict:
    """The authors' code; its eight GPUs are eight BatchNorm groups."""
    return {
        "epochs": 200.0,
        "batch_size": 256,
        "augment": {"recipe": "moco_v2", "one_branch": True},
        "method": {"name": "ressl", "decay": 0.999, "shuffle": True},
        "network": network({"name": "resnet50", "splits": 8}, {"hidden": 4096, "output": 512}) | {"dtype": "bfloat16"},
        "optimizer": sgd(learning_rate=0.05) | {"weight_decay": 1e-4, "rules": base.WEIGHTS_ONLY},
    }


def sgd(learning_rate: float) -> dict:
    return {"name": "sgd", "learning_rate": learning_rate, "warmup": "5 epochs"}


def network(encoder: dict, head: dict) -> dict:
    """The head has no BatchNorm (the authors' network/head.py)."""
    return {"encoder": encoder, "projector": {"norm": "none", "hidden_bias": True, "output_bias": True} | head}


get_config = base.presets(embedded, cifar10, imagenet)
