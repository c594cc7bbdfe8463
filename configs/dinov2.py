"""DINOv2, Learning Robust Visual Features without Supervision (Oquab et al. 2023, arXiv:2304.07193).

python -m ssl_jax.main --config=configs/dinov2.py

preset      what                                            expect, and its source
(none)      small ViT on the embedded images, minutes       see docs/benchmarks.md
:cifar10    ViT-Ti/4, batch 256, 800 epochs                 no published number
:imagenet   ViT-L/16, batch 2048, 200 epochs of ImageNet    81.6 k-NN, 82.9 linear (authors' README, vitl16_short)

The ingredients: targets by Sinkhorn-Knopp or by a centre (method.centering=sinkhorn or center), KoLeo
(method.koleo_weight), the patch loss on hidden patches alone (method.mask_*), heads of the patches' own or those of the
views (network.shared_heads), registers (network.encoder.registers, Darcet et al. 2023, arXiv:2309.16588), layer scale.
"""

from configs import base, dino, ibot


def embedded() -> dict:
    """As iBOT's, with all ingredients."""
    recipe = ibot.embedded()
    encoder = ibot.small_vit() | {"registers": 2, "layer_scale": 0.1}
    return recipe | {
        "method": method(decay=0.97, temperature=dino.warmup(0.04, 0.07, "6 epochs")),
        "network": separate(encoder, dino.batch_head(256, 128), prototypes=512),
    }


def cifar10() -> dict:
    encoder = ibot.cifar_vit() | {"registers": 4, "layer_scale": 1e-5}
    return {
        "epochs": 800.0,
        "batch_size": 256,
        "augment": {"recipe": "cifar_asymmetric"},
        "method": method(decay=0.992, temperature=dino.warmup(0.04, 0.07, "30 epochs")),
        "network": separate(encoder, dino.head(2048, 256), prototypes=4096),
        "optimizer": dino.adamw(batch_size=256),
    }


def imagenet() -> dict:
    """The authors' vitl16_short: shared heads, a centre, no registers. An epoch of theirs is 1250 steps.

    Their drop-path has one rate, 0.3, for all blocks; ours rises to it. They clip encoder and heads apart.
    """
    encoder = {"name": "vit_large", "layer_scale": 1e-5} | ibot.STUDENT | {"drop_path": 0.3}
    temperature = dino.warmup(0.04, 0.07, "37500 steps")
    network = ibot.network(encoder, dino.head(2048, 256), 65536, "trained")
    return {
        "steps": 125_000,
        "batch_size": 2048,
        "augment": {"recipe": "dino", "crop": (0.32, 1.0), "small_crop": (0.05, 0.32)},
        "method": method(decay=0.992, temperature=temperature) | {"centering": "center"},
        "network": network | {"dtype": "bfloat16"},
        "optimizer": {
            "name": "adamw",
            "scaling": "sqrt",
            "learning_rate": 0.004 / 1024**0.5,
            "warmup": "12500 steps",
            "end": 1e-6 / 2048**0.5,
            "weight_decay": dino.cosine(0.04, 0.4),
            "clip": 3.0,
            "rules": (*dino.rules("1250 steps"), *layer_decay(blocks=24, rate=0.9, patch=0.2)),
        },
    }


def method(decay: float, temperature: dict) -> dict:
    return dino.method(decay, temperature) | {"name": "dinov2"}


def separate(encoder: dict, head: dict, prototypes: int) -> dict:
    """Views and patches have heads of their own, as in the authors' largest models."""
    network = dino.network(head, prototypes, "trained")
    return network | {"encoder": encoder, "dense": dict(head), "dense_predictor": dict(network["predictor"])}


def layer_decay(blocks: int, rate: float, patch: float) -> tuple:
    """Rules by which earlier blocks learn more slowly, and the embedding of patches more slowly still."""
    scales = {f"encoder/block{i + 1}/": rate ** (blocks - i) for i in range(blocks)}
    first = rate ** (blocks + 1)
    scales |= {"encoder/(token|positions|mask_token)": first, "encoder/patch/": patch * first}
    return tuple((pattern, {"learning_rate": scale}) for pattern, scale in scales.items())


get_config = base.presets(embedded, cifar10, imagenet)
