"""SimCLR, A Simple Framework for Contrastive Learning (Chen et al. 2020, arXiv:2002.05709).

python -m ssl_jax.main --config=configs/simclr.py

preset            what                                            expect, and its source
(none)            small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10          ResNet-18, batch 512, 1000 epochs               about 91 linear (command in the authors' README)
:imagenet         ResNet-50, batch 4096, 1000 epochs              69.1 linear (authors' README); 15 h on 128 TPU cores
:imagenet_2x160   2 views of 160 pixels, 4 of 96, 400 epochs      70.6 linear (SwAV's paper, Figure 3)
"""

from configs import base


def embedded() -> dict:
    return base.embedded_recipe() | {
        "method": {"name": "simclr", "temperature": 0.2},
        "network": network(base.small_encoder(), output=128),
    }


def cifar10() -> dict:
    """The authors' README: half the colour strength, no blur, a higher temperature."""
    return {
        "epochs": 1000.0,
        "batch_size": 512,
        "augment": {"recipe": "simclr", "blur": 0.0, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
        "method": {"name": "simclr", "temperature": 0.5},
        "network": network({"name": "resnet18", "stem": "3x3", "zero_gamma": True}, output=128),
        "optimizer": lars(learning_rate=1.0),
    }


def imagenet() -> dict:
    """Section 2 and Appendix B.6."""
    return {
        "epochs": 1000.0,
        "batch_size": 4096,
        "augment": {"recipe": "simclr"},
        "method": {"name": "simclr"},
        "network": network({"name": "resnet50", "zero_gamma": True}, output=128) | {"dtype": "bfloat16"},
        "optimizer": lars(learning_rate=0.3) | {"weight_decay": 1e-6},
    }


def imagenet_2x160() -> dict:
    """SwAV's multi-crop applied to SimCLR (Caron et al. 2020, arXiv:2006.09882, section 5.2, appendices A.7 and A.8).

    The crops and epochs are SwAV's; its paper gives no optimiser for SimCLR, so SimCLR's own is used.
    """
    augment = {"recipe": "simclr", "small_views": 4, "small_size": 96, "small_crop": (0.05, 0.14)}
    return imagenet() | {"epochs": 400.0, "data": {"size": 160}, "augment": augment}


def lars(learning_rate: float) -> dict:
    """The authors' LARS, with the learning rate inside the momentum, and without biases and BatchNorm."""
    return {
        "name": "lars",
        "variant": "simclr",
        "learning_rate": learning_rate,  # at a batch of 256
        "warmup": "10 epochs",
        "weight_decay": 1e-4,
        "rules": base.WEIGHTS_ONLY,
    }


def network(encoder: dict, output: int, layers: int = 2) -> dict:
    """Hidden layers are as wide as the features; all views share a pass and its BatchNorm statistics."""
    projector = {"layers": layers, "output": output, "last_norm": "batch", "last_scale": True}
    return {"encoder": encoder, "projector": projector, "passes": "resolution"}


get_config = base.presets(embedded, cifar10, imagenet, imagenet_2x160=imagenet_2x160)
