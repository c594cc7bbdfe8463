"""Triplet loss: FaceNet (Schroff et al. 2015, arXiv:1503.03832), batch hard (Hermans et al. 2017, arXiv:1703.07737).

python -m ssl_jax.main --config=configs/triplet.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-50, batch 1024, 1000 epochs              no published number: SupCon's recipe with this loss
:imagenet   ResNet-50, batch 1024, 350 epochs               no published number: SupCon's recipe with this loss

It learns from labels; `data.images_per_class` balances batches (P classes of K images).
"""

from configs import base

get_config = base.metric_learning(
    {"name": "triplet"},
    base.linear_head(),
    # In short runs, semi-hard triplets bring all embeddings close together.
    changes={"optimizer": base.small_adamw(0.01), "method": {"mining": "all"}},
)
