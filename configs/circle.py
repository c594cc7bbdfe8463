"""Circle Loss (Sun et al. 2020, arXiv:2002.10857).

python -m ssl_jax.main --config=configs/circle.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-50, batch 1024, 1000 epochs              no published number: SupCon's recipe with this loss
:imagenet   ResNet-50, batch 1024, 350 epochs               no published number: SupCon's recipe with this loss

It learns from labels; `data.images_per_class` balances batches (P classes of K images).
"""

from configs import base

get_config = base.metric_learning(
    {"name": "circle", "margin": 0.4, "scale": 80.0},
    base.linear_head(),
    # With the paper's scale of 80 only the hardest pair counts, which is too hard for so few steps.
    changes={"optimizer": base.small_adamw(0.01), "method": {"margin": 0.25, "scale": 4.0}},
)
