"""CLIP, Learning Transferable Visual Models From Natural Language Supervision (Radford et al. 2021, arXiv:2103.00020).

python -m ssl_jax.main --config=configs/clip.py

preset               what                                              expect, and its source
(none)               small ResNet on the embedded images with          see docs/benchmarks.md
                     captions made by rules, minutes
:yfcc15m             ViT-B/16, batch 4096, 25 epochs                   37.6 zero-shot, 66.5 linear (SLIP's README)
:yfcc15m_vit_small   ViT-S/16, batch 4096, 25 epochs                   32.7 zero-shot, 59.3 linear (SLIP's README)
:yfcc15m_sigmoid     ViT-B/16 with the loss of SigLIP                  no published number

CIFAR-10 and ImageNet have no captions, so there are no presets for them. The published ones read `pairs:yfcc15m`, a
folder with a table of images and captions; --config.data.source=tfds:NAME reads a TFDS set with captions.

--config.method.objective=sigmoid is SigLIP (arXiv:2303.15343). OpenAI's own ViT-B/32 has patch=32, pre_norm=true,
patch_bias=false, mlp=quick_gelu and eps=1e-5 in network.encoder.
"""

from configs import base


def embedded() -> dict:
    """No caption tells left from right, so images may be mirrored."""
    recipe = base.embedded_recipe()
    kept = {key: recipe["augment"][key] for key in ("mean", "std", "ratio")}
    return recipe | {
        "data": dict(CAPTIONED),
        "augment": {"recipe": "clip", "crop": (0.6, 1.0), "flip": 0.5} | kept,
        "method": {"name": "clip"},
        "network": network(base.small_encoder(), 64),
        "text": small_text(),
        "optimizer": base.small_adamw(1e-3) | {"weight_decay": 0.1, "rules": base.WEIGHTS_ONLY},
    }


def yfcc15m(encoder: str = "vit_base") -> dict:
    """The code of SLIP (arXiv:2112.12750), with its crops; its ViT-S has 12 heads."""
    heads = {"heads": 12}
    return {
        "epochs": 25.0,
        "batch_size": 4096,
        "augment": {"recipe": "clip", "crop": (0.5, 1.0), "resample": "bilinear", "space": "rgb"},
        "method": {"name": "clip"},
        "network": network({"name": encoder} | heads, 512) | {"dtype": "bfloat16"},
        "text": {"mlp": "quick_gelu"},
        "optimizer": adamw(5e-4, 0.5),
    }


def yfcc15m_vit_small() -> dict:
    return yfcc15m("vit_small")


def yfcc15m_sigmoid() -> dict:
    return yfcc15m() | {"method": {"name": "clip", "objective": "sigmoid"}}


def adamw(learning_rate: float, weight_decay: float) -> dict:
    """Of SLIP's code, for all its methods."""
    return {
        "name": "adamw",
        "scaling": "none",
        "learning_rate": learning_rate,
        "betas": (0.9, 0.98),
        "warmup": "1 epochs",
        "warmup_start": 1e-6,
        "end": 1e-5,
        "weight_decay": weight_decay,
        "rules": base.WEIGHTS_ONLY,
    }


CAPTIONED = {"source": "embedded:fashion_mnist_captions", "context": 20}


def small_text(dim: int = 64, depth: int = 2) -> dict:
    """The text tower of the embedded recipes."""
    return {"dim": dim, "depth": depth, "heads": 4, "output": 64}


def network(encoder: dict, output: int) -> dict:
    """A linear map takes features to where texts are."""
    return {"encoder": encoder, "projector": {"layers": 1, "output": output}}


get_config = base.presets(
    embedded, yfcc15m=yfcc15m, yfcc15m_vit_small=yfcc15m_vit_small, yfcc15m_sigmoid=yfcc15m_sigmoid
)
