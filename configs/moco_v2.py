"""MoCo v2, Improved Baselines with Momentum Contrastive Learning (Chen et al. 2020, arXiv:2003.04297).

python -m ssl_jax.main --config=configs/moco_v2.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-18, batch 512, 200 epochs                82.6 k-NN, 200 neighbours (authors' CIFAR-10 notebook)
:imagenet   ResNet-50, batch 256, 200 epochs                67.5 linear (authors' README); 53 h on 8 V100 GPUs
"""

from configs import base


def embedded() -> dict:
    return base.embedded_recipe() | {
        "method": {"name": "moco", "decay": 0.97, "queue_size": 4096},
        "network": network(base.small_encoder(), {"output": 128}),
    }


def cifar10() -> dict:
    """The authors' CIFAR-10 notebook: linear head, eight BatchNorm groups, keys shuffled between them."""
    return {
        "epochs": 200.0,
        "batch_size": 512,
        "augment": {"recipe": "moco_v2", "crop": (0.08, 1.0), "blur": 0.0},
        "method": {"name": "moco", "decay": 0.99, "temperature": 0.1, "queue_size": 4096, "shuffle": True},
        "network": network({"name": "resnet18", "stem": "3x3", "splits": 8}, {"layers": 1, "output": 128}),
        "optimizer": sgd(learning_rate=0.06) | {"scaling": "none", "weight_decay": 5e-4},
        "evaluate": {"neighbours": 200, "temperature": 0.1},
    }


def imagenet() -> dict:
    """The authors' code with --mlp --moco-t 0.2 --aug-plus --cos; its eight GPUs are eight BatchNorm groups."""
    return {
        "epochs": 200.0,
        "batch_size": 256,
        "augment": {"recipe": "moco_v2"},
        "method": {"name": "moco", "decay": 0.999, "shuffle": True},
        "network": network({"name": "resnet50", "splits": 8}, {"output": 128}) | {"dtype": "bfloat16"},
        "optimizer": sgd(learning_rate=0.03) | {"weight_decay": 1e-4},
    }


def sgd(learning_rate: float) -> dict:
    """Weight decay on all parameters, no warm-up, a cosine that changes once per epoch."""
    return {"name": "sgd", "learning_rate": learning_rate, "per_epoch": True}


def network(encoder: dict, head: dict) -> dict:
    """The head has no BatchNorm; its hidden layer is as wide as the features (section 3)."""
    head = {"norm": "none", "hidden_bias": True, "output_bias": True} | head
    return {"encoder": encoder, "projector": head}


get_config = base.presets(embedded, cifar10, imagenet)
