"""Shared by all recipes. A recipe sets only what differs from the defaults, which are in `ssl_jax.schema`."""

from ssl_jax import augment
from ssl_jax.errors import UserError, suggest

# Shared by the recipes of a data set. No preset: the embedded images, for two CPU cores; else prepared TFDS sets, and
# for images with captions a table of the 15 million of YFCC100M that have English ones (arXiv:2103.00020, appendix A).
SHARED: dict[str, dict] = {
    "cifar10": {
        "data": {"source": "tfds:cifar10", "size": 32, "canvas": 32},
        "evaluate": {"every": "10 epochs", "bank": 50_000},
    },
    "imagenet": {
        "data": {"source": "tfds:imagenet2012", "size": 224, "canvas": 320, "workers": 16},
        "evaluate": {"every": "5 epochs", "bank": 100_000, "crop": 224 / 256},
    },
    "yfcc15m": {
        "data": {"source": "pairs:yfcc15m", "size": 224, "canvas": 256, "workers": 16},
        "evaluate": {"every": "5 epochs", "bank": 10_000, "crop": 224 / 256},
    },
    "photos": {"data": {"source": "folder:photos"}},
}

# Optimiser rules that exempt biases and BatchNorm from weight decay and adaptation.
WEIGHTS_ONLY = (("bias|scale", {"weight_decay": 0.0, "adaptation": False}),)


def small_encoder() -> dict:
    """The encoder of the embedded recipes, which two CPU cores train in minutes."""
    return {"name": "resnet10", "stem": "3x3/2", "width": 0.25}


def small_vit() -> dict:
    """The vision transformer of the embedded recipes: 7 x 7 patches.

    A patch has 48 numbers; a projection of deviation 0.02 would leave little of them beside the positions.
    """
    shape = {"patch": 4, "size": 28, "dim": 96, "depth": 6, "heads": 3}
    return {"name": "vit_tiny", "initializer": "xavier"} | shape


def embedded_recipe() -> dict:
    """Shared by the embedded recipes: weak crops, since clothes are aligned, and strong changes of brightness."""
    return {
        "epochs": 16.0,
        "batch_size": 64,
        "augment": {
            "recipe": "simclr",
            "crop": (0.4, 1.0),
            "ratio": (0.9, 1.1),
            "solarize": 0.2,
            "mean": (0.286,) * 3,  # of the embedded images
            "std": (0.353,) * 3,
        },
        "optimizer": {
            "name": "sgd",
            "learning_rate": 0.4,  # at a batch of 256
            "warmup": "1 epochs",
            "weight_decay": 1e-4,
        },
    }


def photo_views(own: dict, published: dict) -> dict:
    """The views of colour photographs, in place of those of the embedded images: as published, but less enlarged.

    Short runs of small networks learn little from crops of less than a fifth. As SimCLR's authors do at few pixels,
    colours change half as much as on ImageNet and nothing is blurred (arXiv:2002.05709, appendix B.9). Small views keep
    their number and size, and patches all of their shape.

    Args:
        own: the augment group of the embedded recipe.
        published: that of the paper's recipe.
    """
    recipe, rgb = augment.RECIPES[published["recipe"]], augment.SPACES["rgb"]
    colors = {"mean": rgb.mean, "std": rgb.std} if recipe.space.from_rgb is rgb.from_rgb else {}
    if not recipe.large:
        return own | colors
    kept = {key: own[key] for key in ("small_views", "small_size", "small_crop") if key in own}
    least, most = published.get("crop", recipe.large[0].crop.area)
    changes = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "blur": 0.0}
    return published | colors | kept | changes | {"crop": (max(least, 0.2), most)}


def small_adamw(learning_rate: float) -> dict:
    """For losses whose gradients are much smaller or larger than those of a cross-entropy, in embedded recipes."""
    return {
        "name": "adamw",
        "scaling": "none",
        "learning_rate": learning_rate,
        "warmup": "1 epochs",
        "weight_decay": 1e-4,
    }


def solo_lars(learning_rate: float, weight_decay: float, rules: tuple = WEIGHTS_ONLY) -> dict:
    """The optimiser of solo-learn's CIFAR recipes (arXiv:2108.01775), at a batch of 256."""
    return {
        "name": "lars",
        "variant": "solo",
        "learning_rate": learning_rate,
        "eta": 0.02,
        "warmup": "10 epochs",
        "weight_decay": weight_decay,
        "rules": rules,
    }


def wide_lars(rules: tuple = WEIGHTS_ONLY) -> dict:
    """The optimiser that Barlow Twins and VICReg train ImageNet with, at a batch of 256."""
    return {
        "name": "lars",
        "learning_rate": 0.2,
        "warmup": "10 epochs",
        "end": 0.0002,
        "weight_decay": 1e-6,
        "rules": rules,
    }


def step_sgd(learning_rate: float, weight_decay: float, milestones: tuple[str, ...]) -> dict:
    """The SGD of the first papers, at their batch size; the rate is divided by 10 at each milestone."""
    return {
        "name": "sgd",
        "learning_rate": learning_rate,
        "scaling": "none",
        "schedule": "step",
        "milestones": milestones,
        "weight_decay": weight_decay,
    }


def linear_head(output: int = 128) -> dict:
    """The projector of the first papers: one linear layer."""
    return {"layers": 1, "output": output, "output_bias": True}


def metric_learning(method: dict, projector: dict, rules: tuple = (), changes: dict | None = None):
    """Returns the `get_config` of a method that learns from labels, as SupCon's authors train (arXiv:2004.11362).

    Batches have 8 images per class; with 10 classes that only suits small batches, so CIFAR-10's are not balanced.

    Args:
        method: the config group of the method.
        projector: the config group of the projector.
        rules: optimiser rules of the published recipes.
        changes: changes of the embedded recipe, by group.
    """

    def network(encoder: dict) -> dict:
        return {"encoder": encoder, "projector": projector, "passes": "resolution"}

    def small() -> dict:
        own = {"data": {"images_per_class": 8}, "method": method, "network": network(small_encoder())}
        recipe = embedded_recipe() | own
        return recipe | {part: recipe[part] | change for part, change in (changes or {}).items()}

    def cifar10() -> dict:
        return {
            "epochs": 1000.0,
            "batch_size": 1024,
            "augment": {"recipe": "supcon"},
            "method": method,
            "network": network({"name": "resnet50", "stem": "3x3"}),
            "optimizer": {
                "name": "sgd",
                "scaling": "none",
                "learning_rate": 0.5,
                "warmup": "10 epochs",
                "warmup_start": 0.01,
                "end": 0.0005,
                "weight_decay": 1e-4,
                "rules": rules,
            },
        }

    def imagenet() -> dict:
        balanced = {"data": {"images_per_class": 8}, "network": network({"name": "resnet50"}) | {"dtype": "bfloat16"}}
        return cifar10() | {"epochs": 350.0} | balanced

    return presets(small, cifar10, imagenet)


def presets(embedded, cifar10=None, imagenet=None, photos=None, **more):
    """Returns the `get_config` of a recipe, given the changes that each of its presets makes to `SHARED`.

    The name of a further preset starts with its data set, imagenet_NAME shares what imagenet shares; if it starts with
    none, it is of the embedded images. CIFAR-10 and ImageNet have no captions, and so no preset if those are needed.

    Every recipe has the preset `photos`, the embedded one with the views of `photo_views`; `photos` holds further
    changes that it makes, by group. `get_config.photos(preset)` is the same for any preset of the embedded images, and
    None for the others.
    """
    published = {"cifar10": cifar10, "imagenet": imagenet}
    changes = {"": embedded} | {name: recipe for name, recipe in published.items() if recipe} | more

    def for_photos(preset: str = "") -> dict | None:
        if shared(preset):
            return None
        own, paper = changes[preset](), imagenet or more["yfcc15m"]
        views = photo_views(own["augment"], paper()["augment"])
        return merge(own | {"augment": views}, photos or {})

    def recipe(preset: str = "") -> dict:
        if preset == "photos":
            return merge(for_photos(), shared(preset))
        if preset not in changes:
            raise UserError(f"there is no preset {preset!r}; {suggest(preset, [*filter(None, changes), 'photos'])}")
        return merge(shared(preset), changes[preset]())

    recipe.presets = tuple(changes)
    recipe.photos = for_photos
    return recipe


def shared(preset: str) -> dict:
    """What the presets of a data set share."""
    return SHARED.get(preset.partition("_")[0], {})


def merge(recipe: dict, changes: dict) -> dict:
    """Returns a recipe with changes, which are merged into the groups that both have."""
    return recipe | changes | {group: recipe[group] | changes[group] for group in recipe.keys() & changes.keys()}
