"""DeepCluster, Deep Clustering for Unsupervised Learning of Visual Features (Caron et al. 2018, arXiv:1807.05520).

python -m ssl_jax.main --config=configs/deepcluster.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-18, batch 256, 200 epochs                no number published
:imagenet   ResNet-50, batch 256, 200 epochs                the paper's AlexNet: 41.0 linear on its third convolution

The paper trains AlexNet and VGG-16 and clusters the features of their last hidden layer but one before its ReLU; here
they are the ResNet's. k-means of a million images into 10,000 clusters takes 50 GB, which the devices share.
"""

from configs import base


def embedded() -> dict:
    """Epochs are short, so each new head learns ten times as fast, and the rate does not decay to 0."""
    recipe = base.embedded_recipe()
    return recipe | {
        "augment": recipe["augment"] | {"recipe": "deepcluster"},
        "method": method(prototypes=100, components=64),
        "network": network(base.small_encoder()),
        "optimizer": recipe["optimizer"] | {"end": 0.04, "rules": new_head(10.0)},
    }


def cifar10() -> dict:
    """As for ImageNet, with ten clusters per class."""
    return imagenet() | {
        "method": method(prototypes=100),
        "network": network({"name": "resnet18", "stem": "3x3"}),
    }


def imagenet() -> dict:
    """The authors' main.sh."""
    return {
        "epochs": 200.0,
        "batch_size": 256,
        "augment": {"recipe": "deepcluster"},
        "method": method(),
        "network": network({"name": "resnet50"}) | {"dtype": "bfloat16"},
        "optimizer": {
            "name": "sgd",
            "scaling": "none",
            "schedule": "constant",
            "learning_rate": 0.05,
            "weight_decay": 1e-5,
            "rules": new_head(),
        },
    }


def new_head(learning_rate: float = 1.0) -> tuple:
    """An optimiser rule: each head is new, so it has no momentum. The rate is relative to the network's."""
    return (("^head", {"momentum": 0.0, "learning_rate": learning_rate}),)


def method(**changes: int) -> dict:
    return {"name": "deepcluster", "every": "1 epochs"} | changes


def network(encoder: dict) -> dict:
    return {"encoder": encoder, "passes": "resolution"}


get_config = base.presets(embedded, cifar10, imagenet)
