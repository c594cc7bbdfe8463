"""SimCLR v2, Big Self-Supervised Models are Strong Semi-Supervised Learners (Chen et al. 2020, arXiv:2006.10029).

python -m ssl_jax.main --config=configs/simclr_v2.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    ResNet-18, batch 512, 1000 epochs               about 91 linear (command in the authors' README)
:imagenet   ResNet-50 + SK, batch 4096, 800 epochs          74.6 linear, 64.5 with 1 % of the labels (Table 1)

SimCLR with a head of three layers and, in ResNets with bottlenecks, selective kernels. Labels are best spent on
fine-tuning from the first layer of the head: `Network.encode(images, layers=1)`.
"""

from configs import base, simclr


def embedded() -> dict:
    return simclr.embedded() | {"network": network(base.small_encoder())}


def cifar10() -> dict:
    """The authors' README: as SimCLR, except that the head has three layers by default."""
    return simclr.cifar10() | {"network": network({"name": "resnet18", "stem": "3x3", "zero_gamma": True})}


def imagenet() -> dict:
    """Section 3; the learning rate and its warm-up are those of the authors' README."""
    return simclr.imagenet() | {
        "epochs": 800.0,
        "network": network(selective_encoder()) | {"dtype": "bfloat16"},
        "optimizer": optimizer(),
    }


def selective_encoder() -> dict:
    """ResNet-50 with selective kernels, a stem of 3x3 convolutions, and average pooling in its shortcuts."""
    return {"name": "resnet50", "stem": "deep", "selective": 1 / 16, "zero_gamma": True}


def optimizer() -> dict:
    """SimCLR's optimiser, with the square-root scaling that suits smaller batches too."""
    return simclr.lars(learning_rate=0.075) | {"scaling": "sqrt"}  # at a batch of 1


def network(encoder: dict) -> dict:
    return simclr.network(encoder, output=128, layers=3)


get_config = base.presets(embedded, cifar10, imagenet)
