"""iBOT, Image BERT Pre-Training with Online Tokenizer (Zhou et al. 2021, arXiv:2111.07832).

python -m ssl_jax.main --config=configs/ibot.py

preset            what                                            expect, and its source
(none)            small ViT on the embedded images, minutes       see docs/benchmarks.md
:cifar10          ViT-Ti/4, batch 256, 800 epochs                 no published number
:imagenet         ViT-S/16, batch 1024, 800 epochs                75.2 k-NN, 77.9 linear (authors' README)
:imagenet_random  ViT-B/16, random masks, 400 epochs              77.3 k-NN, 79.8 linear (authors' README)

--config.method.mask=random hides patches at random in place of blocks. With network.shared_heads=false, patches have
heads of their own, network.dense and network.dense_predictor; the authors' code then shares all but the last layer.
"""

from configs import base, dino


def embedded() -> dict:
    """As DINO's, with a small ViT."""
    recipe = dino.embedded()
    return recipe | {
        "epochs": 12.0,
        "method": method(decay=0.97, duration="6 epochs"),
        "network": network(small_vit(), dino.batch_head(256, 128), prototypes=512),
    }


def cifar10() -> dict:
    return {
        "epochs": 800.0,
        "batch_size": 256,
        "augment": {"recipe": "cifar_asymmetric"},
        "method": method(decay=0.996, duration="30 epochs"),
        "network": network(cifar_vit(), dino.head(2048, 256), prototypes=4096),
        "optimizer": dino.adamw(batch_size=256),
    }


def imagenet() -> dict:
    """The command of the authors' README for ViT-S/16."""
    encoder = {"name": "vit_small"} | STUDENT
    return {
        "epochs": 800.0,
        "batch_size": 1024,
        "augment": {"recipe": "ibot"},
        "method": method(decay=0.996, duration="30 epochs"),
        "network": network(encoder, dino.head(2048, 256), 8192, "trained") | {"dtype": "bfloat16"},
        "optimizer": dino.adamw(batch_size=1024),
    }


def imagenet_random() -> dict:
    """ViT-B/16 as its released weights with random masks: prototypes are cosines."""
    recipe = imagenet()
    encoder = {"name": "vit_base"} | STUDENT
    return recipe | {
        "epochs": 400.0,
        "method": recipe["method"] | {"mask": "random"},
        "network": network(encoder, dino.head(2048, 256), 8192) | {"dtype": "bfloat16"},
    }


STUDENT = {"mask_token": True, "drop_path": 0.1, "resampling": "offset"}


def small_vit() -> dict:
    """Which two CPU cores train in minutes."""
    return base.small_vit() | {"dim": 64, "depth": 4, "heads": 4} | STUDENT


def cifar_vit() -> dict:
    return {"name": "vit_tiny", "patch": 4, "size": 32} | STUDENT


def method(decay: float, duration: str) -> dict:
    temperature = dino.warmup(0.04, 0.07, duration)
    return dino.method(decay, temperature) | {"name": "ibot", "patch_temperature": dict(temperature)}


def network(encoder: dict, projector: dict, prototypes: int, weight_norm: str = "unit") -> dict:
    """Patches go through the heads of the views."""
    return dino.network(projector, prototypes, weight_norm) | {"encoder": encoder, "shared_heads": True}


get_config = base.presets(embedded, cifar10, imagenet, imagenet_random=imagenet_random)
