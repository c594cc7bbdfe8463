"""What all recipes share: the images, how often to look at the features, what to keep. One level, no deeper."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from ssl_jax.errors import UserError, nearest


def get_config(preset: str = "") -> ConfigDict:
    """Returns what recipes share, for a preset; a recipe adds its method and heads, and sets what it needs.

    No preset: the embedded images, for two CPU cores. cifar10, imagenet: the prepared TensorFlow Datasets sets.
    """
    config = ConfigDict(
        {
            "seed": 0,
            "epochs": 1.0,  # of the training images
            "steps": placeholder(int),  # overrules epochs
            "batch_size": 256,  # images, over all devices
            "data": data(preset),
            "augment": augment(),
            "network": {"encoder": encoder()},
            "optimizer": optimizer(),
            "evaluate": evaluate(preset),
            "checkpoint": {"every": "1 epochs", "keep": 2},  # the latest; the best by k-NN is kept besides
            "log": {"every": 10, "wandb": False},  # steps
        }
    )
    return config


def data(preset: str) -> dict:
    return {
        "source": {"": "embedded:fashion_mnist", "cifar10": "tfds:cifar10", "imagenet": "tfds:imagenet2012"}[preset],
        "dir": placeholder(str),  # of prepared TensorFlow Datasets sets, local or gs://; none: their default
        "size": {"": 28, "cifar10": 32, "imagenet": 224}[preset],  # pixels, side of the (large) views
        "canvas": {"": placeholder(int), "cifar10": 32, "imagenet": 320}[
            preset
        ],  # pixels the host fits images into; none: size
        "masks": False,  # whether images come with a mask of what matters in them: a folder's, in alpha channels
        "images_per_class": placeholder(int),  # in a batch, for losses over pairs of a class; none: any images
        "workers": {"": 0, "cifar10": 0, "imagenet": 16}[preset],  # processes that read; 0: threads
        "device_bytes": 2**30,  # a set that takes less lives on the device whole
        "host_bytes": 2**31,  # samples to evaluate on that take less are read once
    }


def augment() -> dict:
    """A recipe's name, and what may be changed in it; none: as its paper has it."""
    ranges = ("crop", "small_crop", "ratio", "sigma", "mean", "std")
    numbers = ("flip", "jitter", "brightness", "contrast", "saturation", "hue", "gray", "blur", "solarize")
    numbers += ("randaugment", "magnitude", "cover")
    return {
        "recipe": placeholder(str),
        "space": placeholder(str),  # rgb, lab or ycbcr; mean and std are then that space's, if they are not set
        "small_size": placeholder(int),  # pixels, side of the small views of a multi-crop recipe
        "small_views": placeholder(int),
        **{name: placeholder(tuple) for name in ranges},
        **{name: placeholder(float) for name in numbers},
    }


def encoder() -> dict:
    """What may be set of an encoder; none: the default of `ssl_jax.networks`' ResNet or ViT, whichever is named."""
    return {
        **{name: placeholder(str) for name in ("name", "stem", "norm", "pool", "positions")},
        **{name: placeholder(float) for name in ("width", "standardize", "selective")},
        **{name: placeholder(int) for name in ("groups", "splits", "patch", "size", "dim", "depth", "heads")},
        "zero_gamma": placeholder(bool),
    }


def head() -> dict:
    """What may be set of an MLP head; none: the default of `ssl_jax.networks.MLP`, which says what each means."""
    return {
        **{name: placeholder(str) for name in ("norm", "last_norm")},
        **{name: placeholder(int) for name in ("layers", "hidden", "groups", "splits")},
        **{name: placeholder(bool) for name in ("hidden_bias", "output_bias", "last_scale", "normalize")},
        "standardize": placeholder(float),
    }


def optimizer() -> dict:
    """What may be set; none: the default of `ssl_jax.optimizer.Settings`, which says what each means."""
    names = ("name", "variant", "scaling", "schedule", "warmup")
    numbers = ("learning_rate", "warmup_start", "end", "factor", "momentum", "weight_decay", "eps", "eta", "clip")
    return {
        **{name: placeholder(str) for name in names},
        **{name: placeholder(float) for name in numbers},
        **{name: placeholder(bool) for name in ("per_epoch", "nesterov")},
        **{name: placeholder(tuple) for name in ("milestones", "betas", "rules")},
    }


def evaluate(preset: str) -> dict:
    return {
        "every": {"": "4 epochs", "cifar10": "10 epochs", "imagenet": "5 epochs"}[preset],
        "labels": "auto",  # or required, ignored
        "bank": {"": 10_000, "cifar10": 50_000, "imagenet": 100_000}[
            preset
        ],  # training images the neighbours come from
        "test": 50_000,  # test images at most
        "crop": {"": 1.0, "cifar10": 1.0, "imagenet": 224 / 256}[preset],  # share of the shorter side
        "neighbours": 20,
        "temperature": 0.07,  # of the neighbours' votes
    }


WEIGHTS_ONLY = (
    ("bias|scale", {"weight_decay": 0.0, "adaptation": False}),
)  # an optimiser rule: spares biases and BatchNorm


HEADS = {"projector", "predictor", "dense"}


def small_encoder() -> dict:
    """The network of the embedded recipes: one that two CPU cores train in minutes."""
    return {"name": "resnet10", "stem": "3x3/2", "width": 0.25}


def embedded_recipe() -> dict:
    """What the embedded recipes share: gentle crops, since clothes are aligned, and strong changes of brightness."""
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


def small_adamw(learning_rate: float) -> dict:
    """In the embedded recipes, for losses whose gradients are much smaller or larger than a cross-entropy's."""
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
    """The SGD of the first papers, at the batch they used: a tenth of the rate from each milestone on."""
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

    Batches hold 8 images of a class; with 10 classes that only fits small batches, so CIFAR-10's are not balanced.
    `rules` are of the published recipes' optimiser; `changes` are the embedded recipe's, by part.
    """

    def network(encoder: dict) -> dict:
        return {"encoder": encoder, "projector": projector, "passes": "resolution", "dtype": "float32"}

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


def features(encoder: dict) -> int:
    """Channels of a ResNet's features."""
    deep = encoder["name"] in ("resnet50", "resnet101", "resnet152")
    return round((2048 if deep else 512) * encoder.get("width", 1.0))


def presets(embedded, cifar10, imagenet, **more):
    """Returns the `get_config` of a recipe from the changes that each of its presets makes to what all share.

    The name of a further preset begins with its set's: imagenet_NAME shares what imagenet shares.
    """
    changes = {"": embedded, "cifar10": cifar10, "imagenet": imagenet} | more

    def recipe(preset: str = "") -> ConfigDict:
        if preset not in changes:
            raise UserError(f"there is no preset {preset!r}; {nearest(preset, filter(None, changes))}")
        config = get_config(preset.partition("_")[0])
        config.update(changes[preset]())
        for name in HEADS & set(config.network):
            given = config.network[name]
            if given and "prototypes" not in given:
                config.network[name] = head() | given.to_dict()
        return config

    recipe.presets = tuple(changes)
    return recipe
