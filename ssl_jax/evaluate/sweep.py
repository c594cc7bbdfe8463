"""Linear classifiers on frozen features, trained by SGD or LARS: a grid of them as one program."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ssl_jax import augment, optimizer, parallel, schedule
from ssl_jax.evaluate.features import Features
from ssl_jax.evaluate.linear import scaling
from ssl_jax.evaluate.result import Protocol, Result, classified
from ssl_jax.evaluate.subject import Subject, crop_and_flip
from ssl_jax.fields import every, not_negative, one_of, positive
from ssl_jax.numeric import widen
from ssl_jax.rules import resolve
from ssl_jax.schema import FEATURE

HELD_OUT = 10  # one training image in so many chooses among the points of a grid
SGD = (("name", "sgd"),)
NESTEROV = (("name", "sgd"), ("nesterov", True))


class Recipe(NamedTuple):
    """How a paper trains its linear classifier."""

    rates: tuple[float, ...]  # learning rates, at a batch of 256
    decays: tuple[float, ...] = (0.0,)  # weight decays
    epochs: int = 100
    batch_size: int = 256  # at most; all images if they are fewer
    standardize: bool = False  # features are standardised, as by a BatchNorm without parameters
    optimizer: tuple[tuple[str, Any], ...] = SGD  # further fields of `optimizer.Settings`


RECIPES = {
    "grid": Recipe((0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0), (0.0, 1e-5, 1e-4, 1e-3), 30, 256, True),
    # arXiv:1911.05722, section 4.1
    "moco": Recipe((30.0,), optimizer=(*SGD, ("schedule", "step"), ("milestones", ("60 epochs", "80 epochs")))),
    # arXiv:2002.05709, appendix B.6; the weight decay is that of the authors' code
    "simclr": Recipe((0.1,), (1e-6,), 90, 4096, optimizer=NESTEROV),
    # arXiv:2006.07733, appendix C.1: the best of five rates
    "byol": Recipe((0.4, 0.3, 0.2, 0.1, 0.05), epochs=80, batch_size=1024, optimizer=NESTEROV),
    # the authors' code of arXiv:2006.09882
    "swav": Recipe((0.3,), (1e-6,)),
    # the authors' code of arXiv:2011.10566
    "simsiam": Recipe((0.1,), (0.0,), 90, 4096, optimizer=(("name", "lars"), ("variant", "larc"))),
    # arXiv:2103.03230, section 3.1
    "barlow_twins": Recipe((0.3,), (1e-6,)),
    # arXiv:2105.04906, appendix C
    "vicreg": Recipe((0.02,), (1e-6,)),
    # the authors' code of arXiv:2104.14294; they concatenate the tokens of a ViT's last four blocks
    "dino": Recipe((0.001,)),
    # arXiv:2111.06377, appendix A.1
    "mae": Recipe((0.1,), (0.0,), 90, 16384, True, (("name", "lars"), ("warmup", "10 epochs"))),
}
Classifiers = dict[str, jax.Array]  # of L layers and P points: {"kernel": [L, P, D, C], "bias": [L, P, C]}


@dataclasses.dataclass(frozen=True)
class Linear(Protocol):
    """A linear classifier that SGD trains on frozen features, with the best of a grid of settings.

    All points of the grid, learning rate x weight decay x layer, are trained at once. The best is that which does best
    on a tenth of the training images that is held out; it is trained again on all of them, and tested once.
    """

    recipe: Annotated[str, one_of(RECIPES)] = "grid"  # a paper's, or a grid for features of any scale
    rates: Annotated[tuple[float, ...], every(positive)] | None = None  # learning rates at a batch of 256
    decays: Annotated[tuple[float, ...], every(not_negative)] | None = None  # weight decays
    layers: Annotated[tuple[str, ...], every(FEATURE)] | None = None  # as evaluate.feature, which None stands for
    epochs: Annotated[int, positive] | None = None  # None, as above: the recipe's
    copies: Annotated[int, not_negative] = 0  # of each training image, cropped and flipped at random; 0: centre crops

    def check(self, subject):
        for layer in self.layers or ():
            subject.number(layer)

    def __call__(self, subject: Subject) -> Result:
        recipe, layers = self.filled, self.layers or (subject.chosen,)
        bank, test = subject.features(layers[0])
        labels = np.where(parallel.gather(bank.position) >= 0, parallel.gather(bank.label), -1)
        clean, tested, copies = inputs(subject, layers, self.copies, jnp.asarray(labels >= 0), recipe.standardize)

        known = np.random.default_rng(0).permutation(np.flatnonzero(labels >= 0))
        held_out, others = np.split(known, [max(1, len(known) // HELD_OUT)])
        grid = list(itertools.product(recipe.rates, recipe.decays))
        points = jnp.array(grid, clean.dtype)
        fit = functools.partial(train, labels=jnp.asarray(labels), recipe=recipe, classes=len(subject.classes))
        guesses = predict(clean[:, held_out], fit(copies, rows=jnp.asarray(others), points=points))
        accuracies = 100 * np.mean(parallel.gather(guesses) == labels[held_out], axis=-1)  # [L, P]
        layer, point = np.unravel_index(np.argmax(accuracies), accuracies.shape)

        only = slice(layer, layer + 1)
        best = fit(copies[only], rows=jnp.asarray(known), points=points[point : point + 1])
        result = classified(predict(tested[only], best)[0, 0], test)
        found = {
            "layer": layers[layer],
            **dict(zip(("learning_rate", "weight_decay"), grid[point], strict=True)),
            "held_out_top1": float(accuracies.max()),
            "points": accuracies.size,
        }
        return result._replace(numbers=result.numbers | found)

    @property
    def filled(self) -> Recipe:
        """The recipe, with what is set instead."""
        given: dict[str, Any] = {"rates": self.rates, "decays": self.decays, "epochs": self.epochs}
        return RECIPES[self.recipe]._replace(**{name: value for name, value in given.items() if value is not None})


def inputs(subject: Subject, layers: tuple[str, ...], copies: int, known: jax.Array, standardize: bool):
    """Returns what classifiers see of each of L layers; those with fewer features than the widest, D, end in zeros.

    Returns:
        The bank [L, N, D], the test sample [L, M, D], and the copies of the bank to train on [L, max(copies, 1), N, D].
    """
    pairs = [subject.features(layer) for layer in layers]
    banks, tests = ([subject.compact(widen(of.x)) for of in side] for side in zip(*pairs, strict=True))
    seen = [[bank] for bank in banks]
    if copies:
        wanted = [subject.number(layer) for layer in layers]
        crops = list(random_crops(subject, copies, dict(wanted)))
        seen = [[subject.compact(widen(crop[name].x)) for crop in crops] for name, _ in wanted]
    if standardize:
        scales = [scaling(bank, known) for bank in banks]
        banks, tests = ([scale(x) for scale, x in zip(scales, side, strict=True)] for side in (banks, tests))
        seen = [[scale(x) for x in some] for scale, some in zip(scales, seen, strict=True)]
    width = max(bank.shape[1] for bank in banks)

    def stack(arrays):
        return jnp.stack([jnp.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in arrays])

    return stack(banks), stack(tests), jnp.stack([stack(some) for some in seen])


def random_crops(subject: Subject, copies: int, wanted: dict[str, int] | None = None) -> Iterator[dict[str, Features]]:
    """Yields features of the bank, each time of other crops of 8 to 100 % of the images, flipped or not.

    That is how the papers augment the images of their linear evaluations.
    """
    view = crop(crop_and_flip(subject.run.recipe, subject.size), subject.run.config.seed)
    return (subject.see(subject.samples.bank, view, wanted, jnp.int32(copy)) for copy in range(copies))


@functools.cache
def crop(recipe: augment.Recipe, seed: int) -> Callable:
    """Returns the view of the first crop of a recipe, given the number of the copy."""
    return lambda batch, copy: augment.views(recipe, jax.random.key(seed), batch, copy)[0][:, 0]


@functools.partial(jax.jit, static_argnames=("recipe", "classes"))
def train(x, labels, rows, points, recipe: Recipe, classes: int) -> Classifiers:
    """Trains a classifier for each layer and each point.

    Args:
        x: [L, V, N, D], features of L layers in V copies, of which each epoch sees one.
        labels: [N], of 0 .. classes - 1 in the rows that are trained on.
        rows: [n], those rows.
        points: [P, 2], learning rate at a batch of 256, and weight decay.
        recipe: all else.
        classes: the number of classes.
    """
    size = min(recipe.batch_size, len(rows))
    each = len(rows) // size  # steps of an epoch
    to_steps = functools.partial(schedule.duration, steps_per_epoch=each, batch_size=size)
    settings = optimizer.parse(dict(recipe.optimizer) | {"learning_rate": 1.0})
    unit = optimizer.learning_rate_schedule(settings, recipe.epochs * each, size, each, to_steps)
    zero = {"kernel": jnp.zeros((x.shape[-1], classes), x.dtype), "bias": jnp.zeros(classes, x.dtype)}
    rules = resolve((("bias", {"weight_decay": 0.0, "adaptation": False}),), zero, to_steps)

    def solver(point):
        rate, decay = point
        return optimizer.transformation(settings, lambda step: rate * unit(step), lambda step: decay, rules, 1.0)

    def loss(params, x, y):
        logits = x @ params["kernel"] + params["bias"][None]
        return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(logits, y))

    def move(state, x, y, point):
        params, opt_state = state
        updates, opt_state = solver(point).update(jax.grad(loss)(params, x, y), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    start = zero, solver((1.0, 0.0)).init(zero)
    # Kernels of all points lie side by side, [D, P, C], so that one product of matrices serves them all.
    axes = jax.tree.map(lambda leaf: max(leaf.ndim - 1, 0), start)
    of_points = jax.vmap(move, (axes, None, None, 0), axes)
    of_layers = jax.vmap(of_points, (0, 0, None, None))

    def epoch(number, state):
        key = jax.random.fold_in(jax.random.key(0), number)
        order = jax.random.permutation(key, rows)[: each * size].reshape(each, size)

        def step(state, batch):
            return of_layers(state, x[:, number % x.shape[1], batch], labels[batch], points), None

        return jax.lax.scan(step, state, order)[0]

    def repeat(leaf, axis):
        of_points = jnp.repeat(jnp.expand_dims(leaf, axis), len(points), axis)
        return jnp.broadcast_to(of_points, (len(x), *of_points.shape))

    params, _ = jax.lax.fori_loop(0, recipe.epochs, epoch, jax.tree.map(repeat, start, axes))
    return params | {"kernel": params["kernel"].swapaxes(1, 2)}


@jax.jit
def predict(x: jax.Array, classifiers: Classifiers) -> jax.Array:
    """Returns the classes [L, P, N] that classifiers predict for features [L, N, D]."""

    def of_point(classifier):
        return jnp.argmax(x @ classifier["kernel"] + classifier["bias"][:, None], axis=-1)

    by_point = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), classifiers)
    return jax.lax.map(of_point, by_point).swapaxes(0, 1)
