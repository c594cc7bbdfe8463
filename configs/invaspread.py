"""InvaSpread, Unsupervised Embedding Learning via Invariant and Spreading Instance Feature (Ye et al. 2019,
arXiv:1904.03436).

python -m ssl_jax.main --config=configs/invaspread.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-18, batch 128, 300 epochs                83.6 k-NN (Table 1)
:imagenet   ResNet-50, batch 128, 300 epochs                no published number: the recipe of CIFAR-10
"""

from configs import base


def embedded() -> dict:
    return base.embedded_recipe() | {
        "method": {"name": "invaspread", "temperature": 0.1, "weight": 1.0},
        "network": network(base.small_encoder()),
    }


def cifar10() -> dict:
    """The authors' code."""
    return {
        "epochs": 300.0,
        "batch_size": 128,
        "augment": {"recipe": "moco_v1", "crop": (0.2, 1.0)},
        "method": {"name": "invaspread", "temperature": 0.1, "weight": 1.0},
        "network": network({"name": "resnet18", "stem": "3x3"}),
        "optimizer": base.step_sgd(0.03, 5e-4, ("120 epochs", "200 epochs")),
        "evaluate": {"neighbours": 200, "temperature": 0.1},
    }


def imagenet() -> dict:
    return cifar10() | {"network": network({"name": "resnet50"}) | {"dtype": "bfloat16"}}


def network(encoder: dict) -> dict:
    """Both views share a pass and its BatchNorm statistics."""
    return {"encoder": encoder, "projector": base.linear_head(), "passes": "resolution", "dtype": "float32"}


get_config = base.presets(embedded, cifar10, imagenet)
