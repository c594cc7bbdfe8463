"""Proxy Anchor Loss for Deep Metric Learning (Kim et al. 2020, arXiv:2003.13911).

python -m ssl_jax.main --config=configs/proxy_anchor.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-50, batch 1024, 1000 epochs              no published number: SupCon's recipe with this loss
:imagenet   ResNet-50, batch 1024, 350 epochs               no published number: SupCon's recipe with this loss

It learns from labels; `data.images_per_class` balances batches (P classes of K images).
"""

from configs import base

get_config = base.metric_learning(
    {"name": "proxy_anchor"},
    base.linear_head(),
    rules=(("proxies", {"weight_decay": 0.0, "learning_rate": 100.0}),),
    changes={"optimizer": base.small_adamw(0.01)},
)
