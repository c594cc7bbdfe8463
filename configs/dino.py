"""DINO, Emerging Properties in Self-Supervised Vision Transformers (Caron et al. 2021, arXiv:2104.14294).

python -m ssl_jax.main --config=configs/dino.py

preset               what                                            expect, and its source
(none)               small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10             ResNet-18, 1000 epochs                          89.5 linear (solo-learn's table, same recipe)
:imagenet            ViT-S/16, batch 512, 100 epochs                 69.3 k-NN, 73.8 linear (authors' README)
:imagenet_300        batch 1024, 300 epochs                          73.3 k-NN, 76.1 linear (authors' README)
:imagenet_800        800 epochs, ten small crops                     74.5 k-NN, 77.0 linear (Table 2)
:imagenet_resnet50   ResNet-50, batch 512, 100 epochs                authors' README, without a number; Table 2 has 75.3
                                                                     linear after 800 epochs

Collapses: --config.method.center_decay=1 switches centring off (one-dimensional), and a teacher temperature equal to
the student's, --config.method.teacher_temperature.start=0.1 and .end=0.1, sharpening (uniform).
"""

from configs import base


def embedded() -> dict:
    """In a short run the teacher is quicker and prototypes are fewer; the head has BatchNorm, which the authors' code
    offers for ResNets, so that images differ from the first step on; crops are as SwAV's here."""
    recipe = base.embedded_recipe()
    crops = {"recipe": "dino", "small_views": 2, "small_size": 16, "small_crop": (0.1, 0.4), "blur": 0.0}
    return recipe | {
        "augment": recipe["augment"] | crops,
        "method": method(decay=0.97, temperature=warmup(0.04, 0.07, "8 epochs")),
        "network": {"encoder": base.small_encoder()} | network(batch_head(512, 128), prototypes=1024),
        "optimizer": base.small_adamw(2e-3) | {"weight_decay": cosine(0.04, 0.4), "clip_each": 3.0, "rules": rules()},
    }


def cifar10() -> dict:
    """The recipe of solo-learn (arXiv:2108.01775), its scripts/pretrain/cifar/dino.yaml: two views."""
    encoder = {"encoder": {"name": "resnet18", "stem": "3x3"}}
    return {
        "epochs": 1000.0,
        "batch_size": 256,
        "augment": {"recipe": "cifar_asymmetric"},
        "method": method(decay=0.9995, temperature=warmup(0.04, 0.07, "50 epochs")),
        "network": encoder | network(head(2048, 256), prototypes=4096),
        "optimizer": base.solo_lars(0.3, 1e-6, rules=rules()),
    }


def imagenet() -> dict:
    """The defaults of the authors' main_dino.py."""
    return {
        "epochs": 100.0,
        "batch_size": 512,
        "augment": {"recipe": "dino"},
        "method": method(decay=0.996, temperature=0.04),
        "network": vit_small(network(head(2048, 256), prototypes=65536)),
        "optimizer": adamw(batch_size=512),
    }


def imagenet_300() -> dict:
    """The README's "boosted" run: a warmer teacher, and prototypes of any length."""
    return imagenet() | {
        "epochs": 300.0,
        "batch_size": 1024,
        "method": method(decay=0.996, temperature=warmup(0.04, 0.07, "30 epochs")),
        "network": vit_small(network(head(2048, 256), prototypes=65536, weight_norm="trained")),
        "optimizer": adamw(batch_size=1024),
    }


def imagenet_800() -> dict:
    """As the released ViT-S/16; larger crops, and ten small ones, are also those of iBOT."""
    return imagenet_300() | {"epochs": 800.0, "augment": {"recipe": "ibot"}}


def imagenet_resnet50() -> dict:
    """The README's command for ResNet-50: SGD, and the crops of SwAV."""
    return imagenet() | {
        "augment": {"recipe": "dino", "crop": (0.14, 1.0), "small_crop": (0.05, 0.14)},
        "network": network(head(2048, 256), prototypes=65536) | {"encoder": {"name": "resnet50"}, "dtype": "bfloat16"},
        "optimizer": {
            "name": "sgd",
            "learning_rate": 0.03,  # at a batch of 256
            "warmup": "10 epochs",
            "end": minimum(512),
            "weight_decay": 1e-4,
            "clip_each": 3.0,
            "rules": rules(),
        },
    }


def method(decay: float, temperature: dict | float) -> dict:
    return {"name": "dino", "decay": cosine(decay, 1.0), "teacher_temperature": temperature}


def cosine(start: float, end: float) -> dict:
    return {"schedule": "cosine", "start": start, "end": end}


def warmup(start: float, end: float, duration: str) -> dict:
    """The teacher's temperature, which rises in a line; the authors' changes once per epoch."""
    return {"schedule": "linear", "start": start, "end": end, "duration": duration}


def adamw(batch_size: int) -> dict:
    return {
        "name": "adamw",
        "learning_rate": 5e-4,  # at a batch of 256
        "warmup": "10 epochs",
        "end": minimum(batch_size),
        "weight_decay": cosine(0.04, 0.4),
        "clip_each": 3.0,
        "rules": rules(),
    }


def minimum(batch_size: int) -> float:
    """The learning rate at the end, 1e-6 at any batch, before it is scaled."""
    return 1e-6 * 256 / batch_size


def rules(frozen: str = "1 epochs") -> tuple:
    """No weight decay of biases and norms; the last layer is frozen at first."""
    return (*base.WEIGHTS_ONLY, ("predictor", {"freeze": frozen}))


def head(hidden: int, output: int) -> dict:
    """The head but for its last layer."""
    biases = {"hidden_bias": True, "output_bias": True}
    return {"layers": 3, "hidden": hidden, "output": output, "norm": "none", "activation": "gelu", "std": 0.02} | biases


def batch_head(hidden: int, output: int) -> dict:
    """The head with BatchNorm, which would take a hidden layer's bias off again."""
    return head(hidden, output) | {"norm": "batch", "hidden_bias": False}


def network(projector: dict, prototypes: int, weight_norm: str = "unit") -> dict:
    """Crops of one resolution share a pass through the encoder, all crops one through the heads."""
    last = {"name": "prototypes", "prototypes": prototypes, "weight_norm": weight_norm}
    return {"projector": projector, "predictor": last, "passes": "resolution"}


def vit_small(heads: dict) -> dict:
    """Drop-path is the student's alone; positions are resampled as the authors do."""
    encoder = {"name": "vit_small", "drop_path": 0.1, "resampling": "offset"}
    return heads | {"encoder": encoder, "dtype": "bfloat16"}


get_config = base.presets(
    embedded,
    cifar10,
    imagenet,
    imagenet_300=imagenet_300,
    imagenet_800=imagenet_800,
    imagenet_resnet50=imagenet_resnet50,
)
