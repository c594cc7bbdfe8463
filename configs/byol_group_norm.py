"""BYOL works even without batch statistics (Richemond et al. 2020, arXiv:2010.10241).

python -m ssl_jax.main --config=configs/byol_group_norm.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-18, 1000 epochs                          no published number
:imagenet   ResNet-50, batch 4096, 1000 epochs              73.9 linear (the paper), 74.3 with BatchNorm

GroupNorm and weight standardisation everywhere. Encoder, projector and predictor choose their norm each, as in
--config.network.projector.norm=none, out of batch, group, layer and none.
"""

from configs import base, byol


def embedded() -> dict:
    return with_groups(byol.embedded(), groups=8)


def cifar10() -> dict:
    return with_groups(byol.cifar10(), groups=16)


def imagenet() -> dict:
    """Section 3.3: 16 groups, otherwise as BYOL."""
    return with_groups(byol.imagenet(), groups=16)


def with_groups(recipe: dict, groups: int) -> dict:
    """The recipe with GroupNorm and weight standardisation instead of BatchNorm."""
    norm = {"norm": "group", "groups": groups, "standardize": 1e-8}
    network = recipe["network"]
    parts = {name: network[name] | norm for name in ("encoder", "projector", "predictor")}
    return recipe | {"network": network | parts}


get_config = base.presets(embedded, cifar10, imagenet)
