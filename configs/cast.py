"""CAST, CASTing Your Model: Learning to Localize Improves Self-Supervised Representations (Selvaraju et al. 2020,
arXiv:2012.04630).

python -m ssl_jax.main --config=configs/cast.py
python -m ssl_jax.main --config=configs/cast.py:imagenet --config.data.source=folder:/coco

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    MoCo v2's recipe with these views               no published number
:imagenet   ResNet-50, batch 256, 200 epochs, on COCO       no published number (the authors' README has none)

It learns from masks of what is salient, which no TensorFlow Datasets set has. So `:cifar10` and `:imagenet` read a
folder that you make: images of 32 pixels, or of any size, as png whose alpha channel is the mask. The authors took
COCO's training images, and masks from DeepUSPS, which needs no labels. `tests/benchmarks/saliency.py` makes crude masks
from the pixels alone. In the embedded set all but black is salient.
"""

from configs import base, moco_v1, moco_v2


def embedded() -> dict:
    """The stem has stride 1, so that the last map has 4 x 4 positions.

    The objects differ from the background in brightness alone, so one direction of the features is enough to find them:
    with the paper's weight of 0.75, all images soon have the same embedding.
    """
    recipe = cast(moco_v2.embedded())
    network = recipe["network"] | {"encoder": base.small_encoder() | {"stem": "3x3"}}
    augment = base.embedded_recipe()["augment"] | {"cover": 0.2}
    return recipe | {"augment": augment, "method": recipe["method"] | {"weight": 0.25}, "network": network}


def cifar10() -> dict:
    return cast(moco_v2.cifar10(), source="folder:cifar10")


def imagenet() -> dict:
    """The authors' command; their code updates the key encoder with 0.999 twice per step."""
    recipe = cast(moco_v1.imagenet(), source="folder:coco")
    optimizer = moco_v2.sgd(learning_rate=0.5) | {"weight_decay": 1e-4, "clip": 2.0}
    return recipe | {"method": recipe["method"] | {"decay": 0.999**2}, "optimizer": optimizer}


def cast(recipe: dict, **data: str) -> dict:
    """A recipe of MoCo with the views, the loss and the gradient clipping of CAST."""
    return recipe | {
        "data": {"masks": True} | data,
        "augment": {"recipe": "cast"},
        "method": {"temperature": 0.2} | recipe["method"] | {"name": "cast"},
        "optimizer": recipe["optimizer"] | {"clip": 2.0},
    }


get_config = base.presets(embedded, cifar10, imagenet)
