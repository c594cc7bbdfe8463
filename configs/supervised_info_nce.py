"""Supervised InfoNCE, the N-pair loss (Sohn 2016, doi:10.5555/3157096.3157304) with a temperature.

python -m ssl_jax.main --config=configs/supervised_info_nce.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-50, batch 1024, 1000 epochs              no published number: SupCon's recipe with this loss
:imagenet   ResNet-50, batch 1024, 350 epochs               no published number: SupCon's recipe with this loss

It learns from labels; `data.images_per_class` balances batches (P classes of K images).
"""

from configs import base

get_config = base.metric_learning({"name": "supervised_info_nce"}, base.linear_head())
