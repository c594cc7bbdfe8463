"""MoCo, Momentum Contrast for Unsupervised Visual Representation Learning (He et al. 2019, arXiv:1911.05722).

python -m ssl_jax.main --config=configs/moco_v1.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-18, batch 512, 200 epochs, symmetric     85.3 k-NN, 200 neighbours (authors' CIFAR-10 notebook)
:imagenet   ResNet-50, batch 256, 200 epochs                60.6 linear (authors' README)

With --config.method.symmetric=true each view is query and key once; with --config.method.shuffle=true keys and queries
are normalised with different rows in BatchNorms of `network.encoder.splits` sub-batches.
"""

from configs import base, moco_v2


def embedded() -> dict:
    recipe = moco_v2.embedded()
    return recipe | {
        "method": recipe["method"] | {"symmetric": True},
        "network": recipe["network"] | {"projector": base.linear_head()},
    }


def cifar10() -> dict:
    """The notebook's symmetric variant."""
    recipe = moco_v2.cifar10()
    return recipe | {"method": recipe["method"] | {"symmetric": True}}


def imagenet() -> dict:
    """Section 3.3; the authors' code without --mlp."""
    recipe = moco_v2.imagenet()
    return recipe | {
        "augment": {"recipe": "moco_v1"},
        "method": recipe["method"] | {"temperature": 0.07},
        "network": recipe["network"] | {"projector": base.linear_head()},
        "optimizer": base.step_sgd(0.03, 1e-4, ("120 epochs", "160 epochs")),
    }


get_config = base.presets(embedded, cifar10, imagenet)
