"""CMC, Contrastive Multiview Coding (Tian et al. 2019, arXiv:1906.05849).

python -m ssl_jax.main --config=configs/cmc.py

preset      what                                            expect, and its source
(none)      two small ResNets on the embedded images        see docs/benchmarks.md
:cifar10    two ResNet-18, batch 128, 240 epochs            no published number: the authors' recipe for ImageNet
:imagenet   two ResNet-50 of twice the width, batch 128     68.4 linear (authors' README)

The views of an image are its lightness and its colours in Lab; --config.augment.space=ycbcr is half a point to a point
better in the authors' README. The embedded images are grey and have no colours: both networks see the lightness there,
and each has to find an image among what the other remembers of its past crops. Colour images of your own, and :photos,
have lightness and colours again.

--config.method.negatives=0 is the softmax over all images, any other number noise-contrastive estimation with as many
drawn images, or with --config.method.softmax=true the softmax over these.
"""

from configs import base


def embedded() -> dict:
    """InstDisc's augmentation, since the views differ only in their networks, and its low learning rate."""
    recipe = base.embedded_recipe()
    return recipe | {
        "augment": recipe["augment"] | {"recipe": "instdisc", "space": "lab", "mean": None, "std": None},
        "method": {"name": "cmc", "negatives": 0, "temperature": 0.1, "channels": ((0,), (0,))},
        "network": network(base.small_encoder()),
        "optimizer": recipe["optimizer"] | {"learning_rate": 0.1},
    }


def cifar10() -> dict:
    """At the temperature of the authors' STL-10, with the negatives of their README's examples."""
    return recipe(network({"name": "resnet18", "stem": "3x3"})) | {
        "method": {"name": "cmc", "negatives": 4096, "temperature": 0.1},
        "evaluate": {"neighbours": 200, "temperature": 0.1},
    }


def imagenet() -> dict:
    """The authors' train_CMC.py with --model resnet50v3."""
    wide = {"name": "resnet50", "width": 2.0, "stem_width": 32}  # the stem is not widened
    return recipe(network(wide) | {"dtype": "bfloat16"}) | {"evaluate": {"neighbours": 200}}


def recipe(network: dict) -> dict:
    return {
        "epochs": 240.0,
        "batch_size": 128,
        "augment": {"recipe": "cmc"},
        "method": {"name": "cmc"},
        "network": network,
        "optimizer": base.step_sgd(0.03, 1e-4, ("120 epochs", "160 epochs", "200 epochs")),
    }


def network(encoder: dict) -> dict:
    return {"encoder": encoder, "projector": base.linear_head()}


get_config = base.presets(embedded, cifar10, imagenet, photos={"method": {"channels": None}})
