"""CPC v2, Data-Efficient Image Recognition with Contrastive Predictive Coding (Hénaff et al. 2019, arXiv:1905.09272).

python -m ssl_jax.main --config=configs/cpc.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-101, batch 64, 1000 epochs               84.5 linear (lightning-bolts, its own encoder and crops)
:imagenet   ResNet-50, batch 512, 200 epochs                63.8 linear (paperswithcode)

--config.method.directions=1 predicts from the top down only. Of the paper's changes to a patch, those of colour are
here; elastic deformation, shear, and the dropping of colour channels are not.
"""

from configs import base


def embedded() -> dict:
    """4 x 4 patches of 16 pixels, 8 apart, of images of 40; the context network is narrow, to save time.

    With so few patches it needs (measured, see docs/benchmarks.md) a gap before the predicted rows, BatchNorm, with
    which features have a higher rank than with the papers' layer norms, large batches, and crops that do not resize.
    """
    shared = base.embedded_recipe()["augment"]
    colors = {key: shared[key] for key in ("mean", "std")}
    return {
        "epochs": 8.0,
        "batch_size": 256,
        "data": {"size": 40},
        "augment": {"recipe": "cpc_cifar", "small_size": 16, "small_crop": (1.0, 1.0)} | colors,
        "method": {"name": "cpc", "hidden": 64},
        "network": network(base.small_encoder(), norm="batch"),
        "optimizer": adam(3e-3) | {"schedule": "cosine", "warmup": "0.5 epochs"},
    }


def cifar10() -> dict:
    """As in lightning-bolts: 7 x 7 patches of 8 pixels, 4 apart; colours change for the whole image."""
    return {
        "epochs": 1000.0,
        "batch_size": 64,
        "augment": {"recipe": "cpc_cifar"},
        "method": {"name": "cpc"},
        "network": network({"name": "resnet101", "stem": "3x3"}),
        "optimizer": adam(4e-5) | {"weight_decay": 1e-5, "eps": 1e-7},
    }


def imagenet() -> dict:
    """6 x 6 patches of 80 pixels, 36 apart, of images of 260; the paper also averages parameters over the run."""
    return {
        "epochs": 200.0,
        "batch_size": 512,
        "data": {"size": 260},
        "augment": {"recipe": "cpc"},
        "method": {"name": "cpc"},
        "network": network({"name": "resnet50"}) | {"dtype": "bfloat16"},
        "optimizer": adam(4e-4),
    }


def network(encoder: dict, norm: str = "layer") -> dict:
    """The papers normalise within each patch: batch statistics may leak the other patches of an image."""
    return {"encoder": encoder | {"norm": norm}, "passes": "resolution"}


def adam(learning_rate: float) -> dict:
    return {
        "name": "adamw",
        "learning_rate": learning_rate,
        "scaling": "none",
        "schedule": "constant",
        "betas": (0.8, 0.999),
        "weight_decay": 0.0,
    }


get_config = base.presets(embedded, cifar10, imagenet)
