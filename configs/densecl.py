"""DenseCL, Dense Contrastive Learning for Self-Supervised Visual Pre-Training (Wang et al. 2020, arXiv:2011.09157).

python -m ssl_jax.main --config=configs/densecl.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-18, batch 512, 200 epochs                no published number: MoCo v2's recipe
:imagenet   ResNet-50, batch 256, 200 epochs                58.7 AP on VOC detection (Table 1), 63.5 linear (mmpretrain)
"""

from configs import base, moco_v2


def embedded() -> dict:
    method = {"decay": 0.97, "queue_size": 4096, "dense_from": "1 epochs"}
    return densely(moco_v2.embedded(), method)


def cifar10() -> dict:
    method = {"decay": 0.99, "queue_size": 4096, "dense_from": "5 epochs", "shuffle": True}
    return densely(moco_v2.cifar10(), method)


def imagenet() -> dict:
    """The authors' configs/selfsup/densecl/densecl_imagenet_200ep.py."""
    method = {"decay": 0.999, "dense_from": "1000 steps", "shuffle": True}
    return densely(moco_v2.imagenet(), method)


def densely(recipe: dict, method: dict) -> dict:
    """MoCo v2's recipe, with a second head over positions."""
    head = {"norm": "none", "output": 128, "hidden_bias": True, "output_bias": True}
    network = recipe["network"] | {"projector": head, "dense": dict(head)}
    return recipe | {"method": {"name": "densecl"} | method, "network": network}


get_config = base.presets(embedded, cifar10, imagenet)
