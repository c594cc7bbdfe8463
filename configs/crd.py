"""CRD, Contrastive Representation Distillation (Tian et al. 2019, arXiv:1910.10699): a small network learns from labels
and from a larger one, the teacher, which a run of any other config has trained.

python -m ssl_jax.main --config=configs/byol.py
python -m ssl_jax.main --config=configs/crd.py --config.method.teacher=runs/byol

Keep the teacher's workdir: every start reads it, also when a run resumes.

preset      what                                            expect, and its source
(none)      half as wide a ResNet, embedded images          see docs/benchmarks.md
:cifar10    ResNet-18, batch 64, 240 epochs                 no published number: the authors' recipe for CIFAR-100
:imagenet   ResNet-18, batch 256, 100 epochs                no published number with a teacher trained without labels
"""

from configs import base


def embedded() -> dict:
    recipe = base.embedded_recipe()
    return recipe | {
        "augment": recipe["augment"] | {"recipe": "crd", "solarize": 0.0},
        "method": {"name": "crd", "negatives": 4096},
        "network": network(base.small_encoder() | {"width": 0.125}),
    }


def cifar10() -> dict:
    """The authors' train_student.py; weak crops replace its shifts by up to four pixels."""
    return {
        "epochs": 240.0,
        "batch_size": 64,
        "augment": {"recipe": "crd", "crop": (0.6, 1.0)},
        "method": {"name": "crd"},
        "network": network({"name": "resnet18", "stem": "3x3"}),
        "optimizer": base.step_sgd(0.05, 5e-4, ("150 epochs", "180 epochs", "210 epochs")),
    }


def imagenet() -> dict:
    """The usual supervised recipe of a ResNet."""
    return {
        "epochs": 100.0,
        "batch_size": 256,
        "augment": {"recipe": "crd"},
        "method": {"name": "crd"},
        "network": network({"name": "resnet18"}) | {"dtype": "bfloat16"},
        "optimizer": base.step_sgd(0.1, 1e-4, ("30 epochs", "60 epochs", "90 epochs")),
    }


def network(encoder: dict) -> dict:
    return {"encoder": encoder, "projector": base.linear_head()}


get_config = base.presets(embedded, cifar10, imagenet)
