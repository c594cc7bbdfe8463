"""CPC, Representation Learning with Contrastive Predictive Coding (van den Oord et al. 2018, arXiv:1807.03748).

python -m ssl_jax.main --config=configs/cpc_v1.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    as v2, from the top down up to five rows        no published number
:imagenet   ResNet-101, batch 512, 200 epochs               48.7 linear (the paper)

The paper crops patches of 64 pixels to 60 at random; here patches are whole. Its encoder is a ResNet without norms up
to the third stage, ours is a whole ResNet with norms.
"""

from configs import base, cpc


def v1(recipe: dict, ignore: int = 1, steps: int = 5) -> dict:
    """Downwards only, up to five rows ahead; the next row, which overlaps, is not predicted."""
    return recipe | {"method": recipe["method"] | {"ignore": ignore, "steps": steps, "directions": 1}}


def embedded() -> dict:
    """The last of four rows is predicted from the first, see cpc.py."""
    return v1(cpc.embedded(), ignore=2, steps=3)


def cifar10() -> dict:
    return v1(cpc.cifar10())


def imagenet() -> dict:
    """7 x 7 patches of 64 pixels, 32 apart, of images of 256 (section 3.2)."""
    recipe = cpc.imagenet() | {"data": {"size": 256}, "augment": {"recipe": "cpc_v1"}}
    network = cpc.network({"name": "resnet101"}) | {"dtype": "bfloat16"}
    return v1(recipe) | {"network": network, "optimizer": cpc.adam(2e-4) | {"betas": (0.9, 0.999)}}


get_config = base.presets(embedded, cifar10, imagenet)
