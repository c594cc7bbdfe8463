"""DetailCLIP, Detail-Oriented CLIP for Fine-Grained Tasks (Monsefi et al. 2024, arXiv:2409.06809).

python -m ssl_jax.main --config=configs/detailclip.py

preset     what                                              expect, and its source
(none)     small ViT on the embedded images with captions    see docs/benchmarks.md
           made by rules, minutes
:yfcc15m   ViT-B/16, batch 4096, 25 epochs                   43.9 zero-shot on ImageNet, 48.1 mIoU on ADE20K (README)

50 epochs give 46.2 zero-shot and 48.8 mIoU. Its parts are switched off by method.view_weight=0, patch_weight=0 and
pixel_weight=0, and by method.removal=none, with which the student sees whole images; removal=random removes any cells.
"""

from configs import base, clip, dino


def embedded() -> dict:
    """Each of the 7 x 7 patches is a cell, of which the paper has as many; the teacher is quick."""
    encoder = base.small_vit()
    recipe = clip.embedded()
    shared = base.embedded_recipe()["augment"]
    kept = {key: shared[key] for key in ("mean", "std", "crop", "ratio", "solarize")}
    return recipe | {
        "augment": {"recipe": "detailclip", "flip": 0.5, "blur": 0.0} | kept,
        "method": method(decay=0.97, duration="6 epochs") | {"cell": 1},
        "network": network(encoder, 64, dino.head(hidden=256, output=64), prototypes=512),
        "text": clip.small_text(),
        "decoder": {"dim": encoder["dim"], "depth": 1, "heads": 4},
    }


def yfcc15m() -> dict:
    """The authors' code, where the patch projection stays as it is drawn."""
    recipe = clip.yfcc15m()
    frozen = (*base.WEIGHTS_ONLY, ("encoder/patch", {"learning_rate": 0.0}))
    return recipe | {
        "augment": {"recipe": "detailclip"},
        "method": method(decay=0.996, duration="1 epochs"),
        "network": network({"name": "vit_base"}, 512, dino.head(hidden=2048, output=256), prototypes=8192)
        | {"dtype": "bfloat16"},
        "decoder": {"dim": 768, "depth": 1, "heads": 16},
        "optimizer": recipe["optimizer"] | {"rules": frozen},
    }


def method(decay: float, duration: str) -> dict:
    """The teacher's temperature is that of iBOT: 0.04 for views, rising to 0.07 for patches."""
    return {
        "name": "detailclip",
        "decay": dino.cosine(decay, 1.0),
        "teacher_temperature": 0.04,
        "patch_temperature": dino.warmup(0.04, 0.07, duration),
    }


def network(encoder: dict, output: int, dense: dict, prototypes: int) -> dict:
    """Views and patches share the dense heads, which are iBOT's."""
    last = {"name": "prototypes", "prototypes": prototypes, "weight_norm": "unit"}
    return clip.network(encoder, output) | {"dense": dense, "dense_predictor": last, "passes": "resolution"}


get_config = base.presets(embedded, yfcc15m=yfcc15m)
