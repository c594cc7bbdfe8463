"""CLIP with one transformer for images and texts, as in MS-CLIP (You et al. 2022, arXiv:2207.12661).

python -m ssl_jax.main --config=configs/clip_shared.py

preset     what                                               expect, and its source
(none)     small ViT on the embedded images with captions     see docs/benchmarks.md
           made by rules, minutes
:yfcc15m   ViT-B/16 with texts of its width, 25 epochs        no published number in this form

Patches and tokens have embeddings, positions, last norms and projections of their own and share all blocks; tokens
attend only to those before them. MS-CLIP's best networks also keep the norms of each block apart.
"""

from configs import base, clip


def embedded() -> dict:
    encoder = base.small_vit()
    return clip.embedded() | {
        "network": clip.network(encoder, 64),
        "text": clip.small_text(encoder["dim"], depth=0),
    }


def yfcc15m() -> dict:
    return clip.yfcc15m() | {"text": {"dim": 768, "depth": 0}}


get_config = base.presets(embedded, yfcc15m=yfcc15m)
