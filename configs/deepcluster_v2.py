"""DeepCluster-v2, Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (Caron et al. 2020,
arXiv:2006.09882, appendix).

python -m ssl_jax.main --config=configs/deepcluster_v2.py

preset            what                                            expect, and its source
(none)            small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10          ResNet-18, batch 256, 1000 epochs               88.9 linear (solo-learn's table, same recipe)
:imagenet         ResNet-50, batch 4096, 800 epochs               75.2 linear (authors' README)
:imagenet_2x160   2 views of 160 pixels, 4 of 96, 400 epochs      74.3 linear (authors' README); 21 h on 64 V100 GPUs
:imagenet_2x224   no small crops, 400 epochs                      70.2 linear (authors' README)
"""

from configs import base, swav


def embedded() -> dict:
    recipe = base.embedded_recipe()
    return recipe | {
        "augment": swav.embedded()["augment"],
        "method": method(prototypes=300),
        "network": network(base.small_encoder(), hidden=512),
        "optimizer": base.small_adamw(0.001),
    }


def cifar10() -> dict:
    """The recipe of solo-learn (arXiv:2108.01775), its scripts/pretrain/cifar/deepclusterv2.yaml."""
    return {
        "epochs": 1000.0,
        "batch_size": 256,
        "augment": {"recipe": "cifar_symmetric"},
        "method": method(),
        "network": network({"name": "resnet18", "stem": "3x3"}, hidden=2048),
        "optimizer": base.solo_lars(0.6, 1e-6) | {"warmup": "11 epochs", "end": 0.0006},
    }


def imagenet() -> dict:
    """The authors' scripts/deepclusterv2_800ep_pretrain.sh."""
    recipe = swav.imagenet()
    return recipe | {
        "method": method(),
        "network": network({"name": "resnet50"}, hidden=2048) | {"dtype": "bfloat16"},
        "optimizer": recipe["optimizer"] | {"rules": ()},
    }


def imagenet_2x160() -> dict:
    """The authors' scripts/deepclusterv2_400ep_pretrain.sh; they evaluate at 224 pixels, we at the size of training."""
    return imagenet() | {"epochs": 400.0, "data": {"size": 160}, "augment": swav.ablation_views()}


def imagenet_2x224() -> dict:
    """The authors' scripts/deepclusterv2_400ep_2x224_pretrain.sh."""
    return imagenet() | {"epochs": 400.0, "augment": swav.two_views()}


def method(**changes: int) -> dict:
    return {"name": "deepcluster_v2", "every": "1 epochs"} | changes


def network(encoder: dict, hidden: int) -> dict:
    """SwAV's, without its layer of prototypes: k-means finds them."""
    projector = {"hidden": hidden, "output": 128, "hidden_bias": True, "output_bias": True, "normalize": True}
    return {"encoder": encoder, "projector": projector, "passes": "resolution"}


get_config = base.presets(embedded, cifar10, imagenet, imagenet_2x160=imagenet_2x160, imagenet_2x224=imagenet_2x224)
