"""SimCLR v2 with the memory of MoCo (Chen et al. 2020, arXiv:2006.10029, section 2).

python -m ssl_jax.main --config=configs/simclr_v2_queue.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-18, batch 512, 1000 epochs               no number published
:imagenet   ResNet-50 + SK, batch 4096, 800 epochs          about 1 more than simclr_v2.py's 74.6 linear (section 2)

Keys come from a moving average of the network; those of the batch's other images and those of a queue are negatives.
The authors' code has no such memory; here it is MoCo with both views as queries, as in SimCLR's loss.
"""

from configs import base, simclr_v2


def embedded() -> dict:
    recipe = simclr_v2.embedded()
    return recipe | {"method": method(0.97, 4096, 0.2), "network": network(recipe)}


def cifar10() -> dict:
    """The memory of MoCo's CIFAR-10 notebook."""
    recipe = simclr_v2.cifar10()
    return recipe | {"method": method(0.99, 4096, 0.5), "network": network(recipe)}


def imagenet() -> dict:
    """The memory of MoCo's ImageNet recipe: 64k keys, of the last eight steps."""
    recipe = simclr_v2.imagenet()
    return recipe | {"method": method(0.999, 65536, 0.1), "network": network(recipe)}


def method(decay: float, queue_size: int, temperature: float) -> dict:
    return {
        "name": "moco",
        "decay": decay,
        "queue_size": queue_size,
        "temperature": temperature,
        "symmetric": True,
        "in_batch": True,
    }


def network(recipe: dict) -> dict:
    """Queries and keys have separate passes and statistics."""
    return recipe["network"] | {"passes": "view"}


get_config = base.presets(embedded, cifar10, imagenet)
