"""Multi-Similarity Loss with General Pair Weighting (Wang et al. 2019, arXiv:1904.06627).

python -m ssl_jax.main --config=configs/multi_similarity.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-50, batch 1024, 1000 epochs              no published number: SupCon's recipe with this loss
:imagenet   ResNet-50, batch 1024, 350 epochs               no published number: SupCon's recipe with this loss

It learns from labels; `data.images_per_class` balances batches (P classes of K images).
"""

from configs import base

get_config = base.metric_learning(
    {"name": "multi_similarity"},
    base.linear_head(),
    changes={"optimizer": base.small_adamw(0.01)},
)
