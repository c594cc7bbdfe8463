"""InvaSpread, Unsupervised Embedding Learning via Invariant and Spreading Instance Feature (Ye et al. 2019,
arXiv:1904.03436).

python -m ssl_jax.main --config=configs/invaspread.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-18, batch 128, 300 epochs                83.6 k-NN (Table 1)
:imagenet   ResNet-50, batch 128, 300 epochs                no published number: the recipe of CIFAR-10
"""

from configs import base

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # CIFAR-10's, as the authors' code has them


def embedded() -> dict:
    return base.embedded_recipe() | {
        "method": {"name": "invaspread"},
        "network": network(base.small_encoder()),
    }


def cifar10() -> dict:
    """The authors' demo_seen.py, in which later steps of the learning rate are in branches that are never reached."""
    return {
        "epochs": 300.0,
        "batch_size": 128,
        "augment": {"recipe": "moco_v1", "crop": (0.2, 1.0), "mean": MEAN, "std": STD},
        "method": {"name": "invaspread"},
        "network": network({"name": "resnet18", "stem": "3x3"}),
        "optimizer": base.step_sgd(0.03, 5e-4, ("120 epochs",)),
        "evaluate": {"neighbours": 200, "temperature": 0.1},
    }


def imagenet() -> dict:
    augment = {"recipe": "moco_v1", "crop": (0.2, 1.0)}
    return cifar10() | {"augment": augment, "network": network({"name": "resnet50"}) | {"dtype": "bfloat16"}}


def network(encoder: dict) -> dict:
    """Both views share a pass and its BatchNorm statistics."""
    return {"encoder": encoder, "projector": base.linear_head(), "passes": "resolution"}


get_config = base.presets(embedded, cifar10, imagenet)
