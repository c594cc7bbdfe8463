"""SupCon, Supervised Contrastive Learning (Khosla et al. 2020, arXiv:2004.11362).

python -m ssl_jax.main --config=configs/supcon.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-50, batch 1024, 1000 epochs              96.0 linear (Table 2)
:imagenet   ResNet-50, batch 1024, 350 epochs               no published number: the authors' 79.1 has a MoCo queue

It learns from labels; `data.images_per_class` balances batches (P classes of K images).
"""

from configs import base

# As wide as the features, 2048 in a ResNet-50 (the authors' networks/resnet_big.py).
HEAD = {"norm": "none", "output": 128, "hidden_bias": True, "output_bias": True}

get_config = base.metric_learning(
    {"name": "supcon"},
    HEAD,
    changes={"network": {"projector": HEAD | {"hidden": 512}}},
)
