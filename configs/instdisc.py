"""InstDisc, Unsupervised Feature Learning via Non-Parametric Instance Discrimination (Wu et al. 2018,
arXiv:1805.01978).

python -m ssl_jax.main --config=configs/instdisc.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-18, batch 128, 200 epochs                80.8 k-NN (Table 1, full softmax)
:imagenet   ResNet-50, batch 256, 200 epochs                46.8 1-NN of the embedding (authors' README)

--config.method.negatives=0 is the softmax over all images, any other number noise-contrastive estimation with as many
drawn images, or with --config.method.softmax=true the softmax over these.
"""

from configs import base


def embedded() -> dict:
    """The learning rate is low, since rows of the memory are an epoch old when they are compared."""
    recipe = base.embedded_recipe()
    return recipe | {
        "augment": recipe["augment"] | {"recipe": "instdisc"},
        "method": {"name": "instdisc", "temperature": 0.1, "negatives": 0},
        "network": network(base.small_encoder()),
        "optimizer": recipe["optimizer"] | {"learning_rate": 0.1},
    }


def cifar10() -> dict:
    """The authors' cifar.py: no flips."""
    return {
        "epochs": 200.0,
        "batch_size": 128,
        "augment": {"recipe": "instdisc", "flip": 0.0},
        "method": {"name": "instdisc", "temperature": 0.1, "negatives": 0},
        "network": network({"name": "resnet18", "stem": "3x3"}),
        "optimizer": base.step_sgd(0.03, 5e-4, ("80 epochs", "120 epochs", "160 epochs")),
        "evaluate": {"neighbours": 200, "temperature": 0.1},
    }


def imagenet() -> dict:
    """The authors' main.py."""
    return {
        "epochs": 200.0,
        "batch_size": 256,
        "augment": {"recipe": "instdisc"},
        "method": {"name": "instdisc"},
        "network": network({"name": "resnet50"}) | {"dtype": "bfloat16"},
        "optimizer": base.step_sgd(0.03, 1e-4, ("120 epochs", "160 epochs")),
        "evaluate": {"neighbours": 200},
    }


def network(encoder: dict) -> dict:
    return {"encoder": encoder, "projector": base.linear_head()}


get_config = base.presets(embedded, cifar10, imagenet)
