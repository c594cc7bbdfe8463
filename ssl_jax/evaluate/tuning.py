"""Training a whole network on with labels or a teacher's answers, as fine-tuning and distillation do."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssl_jax import augment, data, parallel, weights
from ssl_jax.errors import UserError
from ssl_jax.evaluate.result import Result, classified
from ssl_jax.evaluate.subject import Subject, Weights, crop_and_flip
from ssl_jax.method import Method, Variables
from ssl_jax.networks import MLP, Network
from ssl_jax.numeric import path_name
from ssl_jax.trainer import Trainer, TrainState
from ssl_jax.words import number_of


class Recipe(NamedTuple):
    """How a network is trained on."""

    optimizer: dict[str, Any]  # fields of `optimizer.Settings`
    epochs: int
    batch_size: int  # at most; all images if they are fewer
    layers: int = 0  # of the projector that are kept below the classifier
    layer_decay: float = 1.0  # factor of the learning rate from a block of the encoder to the one before
    smoothing: float = 0.0  # of the labels


def check_single(run) -> None:
    """Checks that a run trains one network that sees images as they are.

    Raises:
        UserError: if not.
    """
    if type(run.method).represent is not Method.represent:
        raise UserError(f"the method {run.config.method.name} has no single network to train on; choose another run")


def headless(network: Network) -> Network:
    """Returns a network of which only the encoder is left."""
    without: dict[str, Any] = dict.fromkeys(("projector", "predictor", "dense", "dense_predictor"))
    return network.clone(parent=None, shared_heads=False, **without)


def classifier(network: Network, classes: int, layers: int) -> Network:
    """Returns a network whose projector keeps some layers of that of another, and ends in an output for each class."""
    keep: Any = network.projector if layers else MLP()
    ending = {"output": classes, "output_bias": True, "last_norm": "none", "normalize": False}
    head: nn.Module = keep.clone(parent=None, layers=layers + 1, **ending)
    return headless(network).clone(parent=None, projector=head)


def train(
    subject: Subject,
    source: data.Source,
    method: Method,
    recipe: Recipe,
    seed: int,
    teacher: Any = None,
    views: augment.Recipe | None = None,
) -> Subject:
    """Trains the network of a subject on.

    Args:
        subject: whose encoder, and first layers of the projector, training starts from.
        source: the images.
        method: what is minimised; its network is a `classifier` of the subject's.
        recipe: how.
        seed: of the order, the crops and the classifier.
        teacher: what the state of the method has under this name, if it has one.
        views: the augmentation; None: crops, flipped or not.

    Returns:
        The trained network as a subject, whose chosen features are its logits.
    """
    run, mesh = subject.run, subject.mesh
    devices = parallel.row_shards(mesh)
    batch = min(recipe.batch_size, len(source)) // devices * devices
    if not batch:
        images = number_of(len(source), "image")
        raise UserError(f"{source.name} has {images}, fewer than {devices} devices; take more of them")
    config = ConfigDict(run.config.to_dict() | {"seed": seed, "batch_size": batch, "resolution": {}})
    config.data.images_per_class = None
    each = len(source) // batch
    run = dataclasses.replace(
        run,
        config=config,
        source=source,
        test=None,
        labelled=None,
        recipes=(views or crop_and_flip(run.recipe, subject.size),),
        method=method,
        steps=recipe.epochs * each,
        steps_per_epoch=each,
    )
    rules = (
        ("bias|scale", {"weight_decay": 0.0, "adaptation": False}),
        *layer_rules(run.shapes[0], recipe.layer_decay),
    )
    config.optimizer = ConfigDict(recipe.optimizer | {"rules": rules})
    trainer = Trainer(run, mesh)
    state = started(trainer.init(), subject, recipe.layers)
    if teacher is not None:
        own = jax.tree.map(lambda x: x.copy(), teacher)  # a step donates its state
        state = state._replace(state=state.state._replace(teacher=own))
    for step, images in enumerate(trainer.batches(0)):
        state, _ = trainer.step(state, images, step)
    depth = recipe.layers + 1
    tuned = Weights(state.params, state.state)
    return subject.replace(run=run, weights=tuned, chosen="logits", known={"logits": depth}, compiled={})


def started(state: TrainState, subject: Subject, layers: int) -> TrainState:
    """Returns a state of step 0 with the weights of a subject, but for the classifier."""
    ours = Variables(state.params["network"], state.state.stats)
    theirs = jax.device_get(subject.run.method.variables(subject.weights.params, subject.weights.state))
    kept = "|".join(map(str, range(1, layers + 1))) or "0"  # numbers of layers
    filled, _ = weights.fill(ours, theirs, [rf"^encoder/|^projector/(linear|norm)({kept})/"])
    filled = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), filled, ours)
    return state._replace(
        params=state.params | {"network": filled.params}, state=state.state._replace(stats=filled.stats)
    )


def layer_rules(params: Any, decay: float) -> Sequence[tuple[str, dict[str, float]]]:
    """Returns optimiser rules that lower the learning rate from the classifier down to the first layer.

    Each block of the encoder has `decay` times the rate of the one after it, what comes before the blocks that of a
    block before the first, and the classifier all of it.

    Source: Clark et al. 2020 (ELECTRA, arXiv:2003.10555); MAE (arXiv:2111.06377), appendix A.
    """
    paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    found = {match[1] for path in paths if (match := re.search(r"encoder/((?:stage\d+_)?block\d+)/", path))}
    blocks = sorted(found, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    depth = len(blocks) + 1
    rules = [(r"encoder/", decay**depth)]
    rules += [(rf"encoder/{name}/", decay ** (depth - i)) for i, name in enumerate(blocks, start=1)]
    rules += [(r"encoder/norm/", decay)] if any("encoder/norm/" in path for path in paths) else []
    return [(pattern, {"learning_rate": factor}) for pattern, factor in rules]


def accuracy(subject: Subject) -> Result:
    """Returns the accuracy of a trained classifier on the test sample."""
    (found,) = subject.see(subject.samples.test, subject.center(subject.size)).values()
    return classified(jnp.argmax(found.x, axis=-1), found)
