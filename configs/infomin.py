"""InfoMin, What Makes for Good Views for Contrastive Learning? (Tian et al. 2020, arXiv:2005.10243).

python -m ssl_jax.main --config=configs/infomin.py

preset      what                                            expect, and its source
(none)      small ResNet on the embedded images, minutes    see docs/benchmarks.md
:cifar10    MoCo v2's recipe with these views               no published number
:imagenet   ResNet-50, batch 256, 200 epochs                70.1 linear (authors' README, PyContrast)
"""

from configs import base, moco_v2


def embedded() -> dict:
    """Patches are enlarged to 16 pixels, the stride of the small network."""
    shared = base.embedded_recipe()["augment"] | {"recipe": "infomin", "small_size": 16, "solarize": 0.0}
    return infomin(moco_v2.embedded()) | {"augment": shared}


def cifar10() -> dict:
    return infomin(moco_v2.cifar10())


def imagenet() -> dict:
    """PyContrast's InfoMin preset; its cosine ends at a thousandth of the rate."""
    recipe = infomin(moco_v2.imagenet())
    return recipe | {"optimizer": recipe["optimizer"] | {"end": 3e-5}}


def infomin(recipe: dict) -> dict:
    """MoCo v2's recipe with the views, patches and temperature of InfoMin; all patches share a pass."""
    method = {key: value for key, value in recipe["method"].items() if key != "temperature"}
    return recipe | {
        "augment": {"recipe": "infomin"},
        "method": method | {"name": "infomin"},
        "network": recipe["network"] | {"passes": "resolution"},
    }


get_config = base.presets(embedded, cifar10, imagenet)
