"""SupCon, Supervised Contrastive Learning (Khosla et al. 2020, arXiv:2004.11362).

python -m ssl_jax.main --config=configs/supcon.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-50, batch 1024, 1000 epochs              96.0 linear (Table 2)
:imagenet   ResNet-50, batch 1024, 350 epochs               79.1 (the paper, with a MoCo queue)

It learns from labels; `data.images_per_class` balances batches (P classes of K images).
"""

from configs import base

get_config = base.metric_learning(
    {"name": "supcon", "temperature": 0.1, "base_temperature": 0.07},
    {"norm": "none", "hidden": 512, "output": 128, "hidden_bias": True, "output_bias": True},
)
