"""The training step of a config as `ssl_jax.train` compiles it, and its parts, for `step.py` to time."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax import augment, config, parallel
from ssl_jax.build import build
from ssl_jax.method import apply
from ssl_jax.train import Trainer, train_step

ENCODERS = {"resnet18": {}, "vit_tiny": {"name": "vit_tiny", "patch": 4, "size": 32, "stem": None, "zero_gamma": None}}


class Images:
    """Labelled images in memory."""

    name, classes = "random images", ("one", "other")

    def __init__(self, images: np.ndarray):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return self.images[i], i % 2


def recipe(method: str, encoder: str, batch_size: int):
    """The config's small-scale preset, with this encoder and batch and the optimiser that PyTorch has too."""
    settings = config.load(f"configs/{method}.py:cifar10")
    with settings.unlocked():
        settings.batch_size = batch_size
        settings.augment.recipe = method
        settings.network.encoder.update(ENCODERS[encoder])
        settings.optimizer.update({"name": "sgd", "variant": None, "rules": None})
    return settings


def steps(method: str, encoder: str, images: np.ndarray) -> dict:
    """Returns what to time: the `whole` step from uint8 images [B, S, S, 3], the step `without` augmentation, and what
    the `network` alone takes, forward and backward and, for BYOL, forward through the target too."""
    parallel.keep_freed_memory()  # as the command does
    source = Images(np.concatenate([images] * 2))
    run = build(recipe(method, encoder, len(images)), source, source)
    trainer = Trainer(run, parallel.make_mesh())
    method = run.method
    batch = next(trainer.batches(0))
    dataset = jax.tree.map(lambda x: x[: len(images)], trainer.dataset)
    views = jax.jit(lambda batch: augment.views(run.recipe, trainer.key, batch, 0))(dataset | batch)
    fixed = dataset | batch | {"views": views}

    @functools.partial(jax.jit, donate_argnums=0)
    def without(train, batch, key):
        return train_step(method, run.optimizer(train.params)[0], train, batch, key)

    @jax.jit
    def network(train, views):
        def loss(params):
            outputs, stats = apply(method.network, params, train.state.stats, views)
            return sum(jnp.mean(x) for x in outputs if x is not None), stats

        target = getattr(train.state, "target", None)
        passive = target and apply(method.network, target, train.state.target_stats, views)
        return jax.value_and_grad(loss, has_aux=True)(train.params), passive

    states = {"whole": trainer.init(), "without": trainer.init()}
    numbers = itertools.cycle(range(run.steps))
    forever = (batch for _ in numbers for batch in trainer.batches(0))

    def whole():
        states["whole"], metrics = trainer.step(states["whole"], next(forever), trainer.dataset, trainer.key)
        return float(metrics["loss"])

    def only_step():
        states["without"], metrics = without(states["without"], fixed, trainer.key)
        return float(metrics["loss"])

    return {
        "whole": whole,
        "without": only_step,
        "network": lambda: jax.block_until_ready(network(states["without"], views)),
    }
