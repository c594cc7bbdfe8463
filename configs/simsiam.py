"""SimSiam, Exploring Simple Siamese Representation Learning (Chen and He 2020, arXiv:2011.10566).

python -m ssl_jax.main --config=configs/simsiam.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-18, batch 512, 800 epochs                91.8 linear (Appendix D)
:imagenet   ResNet-50, batch 512, 100 epochs                68.1 linear (authors' README)

It collapses, and the run says so, with --config.method.stop_gradient=false.
"""

from configs import base


def embedded() -> dict:
    """The predictor learns ten times as fast; otherwise the embeddings of a short run have a low rank."""
    recipe = base.embedded_recipe()
    fast = (("predictor", {"constant": True, "learning_rate": 10.0}),)
    return recipe | {
        "method": {"name": "simsiam"},
        "network": network(base.small_encoder(), layers=2, width=512, hidden=128),
        "optimizer": recipe["optimizer"] | {"rules": fast},
    }


def cifar10() -> dict:
    """Appendix D: a projector of two layers, no blur."""
    return {
        "epochs": 800.0,
        "batch_size": 512,
        "augment": {"recipe": "simsiam", "blur": 0.0},
        "method": {"name": "simsiam"},
        "network": network({"name": "resnet18", "stem": "3x3"}, layers=2, width=2048, hidden=512),
        "optimizer": sgd(learning_rate=0.03, weight_decay=5e-4),
    }


def imagenet() -> dict:
    """Section 3 and the authors' code with --fix-pred-lr."""
    encoder = {"name": "resnet50", "zero_gamma": True}
    return {
        "epochs": 100.0,
        "batch_size": 512,
        "augment": {"recipe": "simsiam"},
        "method": {"name": "simsiam"},
        "network": network(encoder, layers=3, hidden=512) | {"dtype": "bfloat16"},
        "optimizer": sgd(learning_rate=0.05, weight_decay=1e-4),
    }


def sgd(learning_rate: float, weight_decay: float) -> dict:
    """Values for a batch of 256; no warm-up, a cosine that changes once per epoch, but not for the predictor."""
    rules = (("predictor", {"constant": True}),)
    settings = {"name": "sgd", "learning_rate": learning_rate, "weight_decay": weight_decay}
    return settings | {"per_epoch": True, "rules": rules}


def network(encoder: dict, layers: int, hidden: int, width: int | None = None) -> dict:
    """The projection ends in a BatchNorm without parameters; the predictor is a bottleneck.

    Without a given width, the projection is as wide as the features.
    """
    projector = {"layers": layers, "hidden": width, "output": width, "last_norm": "batch"}
    predictor = {"hidden": hidden, "output_bias": True}
    return {
        "encoder": encoder,
        "projector": projector,
        "predictor": predictor,
    }


get_config = base.presets(embedded, cifar10, imagenet)
