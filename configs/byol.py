"""BYOL, Bootstrap Your Own Latent (Grill et al. 2020, arXiv:2006.07733).

python -m ssl_jax.main --config=configs/byol.py

preset                what                                            expect, and its source
(none)                small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10              ResNet-18, 1000 epochs                          92.6 linear (solo-learn's table, same recipe)
:imagenet             ResNet-50, batch 4096, 1000 epochs              74.3 linear (Table 1); 8 h on 512 TPU v3 cores
:imagenet_vit_small   ViT-S/16, batch 4096, 300 epochs                see Table 4 of MoCo v3 (arXiv:2104.02057)
:vit                  small ViT on the embedded images, minutes       see docs/benchmarks.md
"""

from configs import base, moco_v3


def embedded() -> dict:
    """A short run needs a fast target, and a predictor that keeps up with it."""
    recipe = base.embedded_recipe()
    return recipe | {
        "method": {"name": "byol", "decay": {"schedule": "cosine", "start": 0.9, "end": 1.0}},
        "network": network(base.small_encoder(), hidden=512, output=256),
        "optimizer": recipe["optimizer"] | {"rules": (("predictor", {"learning_rate": 10.0}),)},
    }


def cifar10() -> dict:
    """The recipe of solo-learn (arXiv:2108.01775), its scripts/pretrain/cifar/byol.yaml."""
    return {
        "epochs": 1000.0,
        "batch_size": 256,
        "augment": {"recipe": "cifar_asymmetric"},
        "method": {"name": "byol", "decay": {"schedule": "cosine", "start": 0.99, "end": 1.0}},
        "network": network({"name": "resnet18", "stem": "3x3"}, hidden=4096, output=256),
        "optimizer": base.solo_lars(learning_rate=1.0, weight_decay=1e-5),
    }


def imagenet() -> dict:
    """Section 3.3 and Appendix A, for 1000 epochs."""
    return {
        "epochs": 1000.0,
        "batch_size": 4096,
        "augment": {"recipe": "byol"},
        "method": {"name": "byol", "decay": {"schedule": "cosine", "start": 0.996, "end": 1.0}},
        "network": network({"name": "resnet50"}, hidden=4096, output=256) | {"dtype": "bfloat16"},
        "optimizer": {
            "name": "lars",
            "learning_rate": 0.2,  # at a batch of 256
            "warmup": "10 epochs",
            "weight_decay": 1.5e-6,
            "rules": base.WEIGHTS_ONLY,
        },
    }


def imagenet_vit_small() -> dict:
    """MoCo v3's recipe, with its heads and its frozen patch projection (arXiv:2104.02057, sections 4 and 6)."""
    return with_transformer(moco_v3.imagenet_vit_small())


def vit() -> dict:
    return with_transformer(moco_v3.vit())


def with_transformer(recipe: dict) -> dict:
    return recipe | {"method": {"name": "byol", "decay": recipe["method"]["decay"]}}


def network(encoder: dict, hidden: int, output: int) -> dict:
    """Projector and predictor have the same form (section 3.3); each view has its own BatchNorm statistics."""
    head = {"hidden": hidden, "output": output, "hidden_bias": True}
    return {"encoder": encoder, "projector": head, "predictor": dict(head)}


get_config = base.presets(embedded, cifar10, imagenet, imagenet_vit_small=imagenet_vit_small, vit=vit)
