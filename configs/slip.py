"""SLIP, Self-supervision meets Language-Image Pre-training (Mu et al. 2021, arXiv:2112.12750).

python -m ssl_jax.main --config=configs/slip.py

preset               what                                            expect, and its source
(none)               small ResNet on the embedded images with        see docs/benchmarks.md
                     captions made by rules, minutes
:yfcc15m             ViT-B/16, batch 4096, 25 epochs                 42.8 zero-shot, 72.1 linear (authors' README)
:yfcc15m_vit_small   ViT-S/16, batch 4096, 25 epochs                 38.3 zero-shot, 66.4 linear (authors' README)

100 epochs of ViT-B/16 give 45.0 zero-shot and 73.6 linear (authors' README).
"""

from configs import base, clip


def embedded() -> dict:
    recipe = clip.embedded()
    shared = base.embedded_recipe()["augment"]
    kept = {key: shared[key] for key in ("mean", "std", "crop", "ratio", "solarize")}
    return recipe | {
        "augment": {"recipe": "slip"} | kept,
        "method": {"name": "slip"},
        "head": head(hidden=512, output=128),
    }


def yfcc15m() -> dict:
    return clip.yfcc15m() | slip()


def yfcc15m_vit_small() -> dict:
    return clip.yfcc15m_vit_small() | slip()


def slip() -> dict:
    return {
        "augment": {"recipe": "slip"},
        "method": {"name": "slip"},
        "head": head(hidden=4096, output=256),
        "optimizer": clip.adamw(3e-3, 0.1),
    }


def head(hidden: int, output: int) -> dict:
    biases = {"hidden_bias": True, "output_bias": True}
    return {"layers": 3, "hidden": hidden, "output": output} | biases


get_config = base.presets(embedded, yfcc15m=yfcc15m, yfcc15m_vit_small=yfcc15m_vit_small)
