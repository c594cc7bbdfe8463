"""The training step of a config as `ssl_jax.train` compiles it, and its parts, for `step.py` to time."""

import dataclasses
import functools
import itertools

import flax.linen as nn
import jax
import numpy as np
import optax

from ssl_jax import augment, config, data, parallel
from ssl_jax.build import build
from ssl_jax.evaluate import probe
from ssl_jax.method import Variables, initialize
from ssl_jax.networks import Outputs
from ssl_jax.train import Trainer, TrainState, train_step

ENCODERS = {"resnet18": {}, "vit_tiny": {"name": "vit_tiny", "patch": 4, "size": 32, "stem": None, "zero_gamma": None}}
POOLED = ("simclr", "byol")  # methods whose loss sees pooled features alone
CHANGES: dict[str, list[tuple[str, str]]] = {
    "dino": [("augment.small_views", "6"), ("augment.small_size", "16")],
    "mae": [("decoder.dim", "192"), ("decoder.depth", "4"), ("decoder.heads", "3")],
}


class Images:
    """Labelled images in memory."""

    name, classes = "random images", ("one", "other")

    def __init__(self, images: np.ndarray, text: data.Text | None = None):
        self.images, self.fields = images, data.image_fields(text=text)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> dict:
        return {"image": self.images[i], "label": i % 2, "text": ["a photo of some object, taken by someone"]}


class Given(nn.Module):
    """Replaces a network by its outputs as parameters, so that a step is everything except the network."""

    shapes: Outputs

    @nn.compact
    def __call__(self, views, train: bool = False, mask=None, keep=None) -> Outputs:
        return jax.tree_util.tree_map_with_path(
            lambda path, x: self.param(jax.tree_util.keystr(path), nn.initializers.normal(), x.shape), self.shapes
        )


def recipe(method: str, encoder: str, batch_size: int):
    """Returns the config's small-scale preset with this encoder, this batch and the optimiser of the PyTorch side."""
    settings = config.load(f"configs/{method}.py:cifar10", CHANGES.get(method, ()))
    with settings.unlocked():
        settings.batch_size = batch_size
        settings.augment.recipe = method
        settings.network.encoder.update(ENCODERS[encoder])
        settings.optimizer.update({"name": "sgd", "variant": None, "rules": None})
    return settings


def steps(method: str, encoder: str, images: np.ndarray) -> dict:
    """Returns what to time: the `whole` step from uint8 images [B, S, S, 3], the step `without` augmentation, and
    separately the `augmentation` and, of a loss on pooled features, the `rest` (loss, optimiser, moving average,
    probe)."""
    parallel.keep_freed_memory()  # as the command does
    source = Images(np.concatenate([images] * 2))
    run = build(recipe(method, encoder, len(images)), source, source)
    trainer = Trainer(run, parallel.make_mesh())
    batch = next(trainer.batches(0))
    raw = data.take(trainer.dataset, np.arange(len(images)), run.source, run.canvas)
    key = trainer.key  # made here, since it is cached
    augmentation = jax.jit(lambda raw: augment.batch(run.recipe, key, raw, 0))
    fixed = augmentation(raw | batch)

    @functools.partial(jax.jit, donate_argnums=0)
    def without(train, batch, key):
        return train_step(run.method, run.optimizer, train, batch, key)

    numbers = itertools.cycle(range(run.steps))
    forever = (batch for _ in numbers for batch in trainer.batches(0))
    parts = {
        "whole": repeated(lambda train: trainer.step(train, next(forever)), trainer.init()),
        "without": repeated(lambda train: without(train, fixed, key), trainer.init()),
        "augmentation": lambda: jax.block_until_ready(augmentation(raw | batch)),
    }
    if method in POOLED:
        outside = rest(run, trainer, fixed["views"])
        parts["rest"] = repeated(lambda train: outside(train, fixed, trainer.key), trainer.init())
    return parts


def repeated(step, state):
    """Returns a function that takes one step further from a state, and waits for it."""

    def run():
        nonlocal state
        state, metrics = step(state)
        return float(metrics["loss"])

    return run


def rest(run, trainer: Trainer, views):
    """Returns a compiled step of all but the network."""
    method, first = run.method, trainer.init()
    _, outputs = jax.eval_shape(lambda: initialize(method.network, trainer.key, views))
    stand_in = dataclasses.replace(method, network=Given(outputs))
    given = stand_in.network.init(trainer.key, views)["params"]
    targets = {"target": Variables(given, {})} if hasattr(first.state, "target") else {}

    @functools.partial(jax.jit, donate_argnums=0)
    def step(train, batch, key):
        def loss(params):
            result = stand_in.loss(params, train.state._replace(stats={}, **targets), batch, key, train.step)
            return result.loss, result

        (value, result), _ = jax.value_and_grad(loss, has_aux=True)({"network": given})
        updates, opt_state = run.optimizer.update(train.params, train.opt_state, train.params)
        params = optax.apply_updates(train.params, updates)
        params, state = method.after_step(params, train.state, key, train.step)
        online, _ = probe.update(train.probe, result.features, batch["label"])
        return TrainState(train.step + 1, params, state, opt_state, online), {"loss": value}

    return step
