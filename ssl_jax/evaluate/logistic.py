"""Logistic regression on frozen features: on all training images, and on a few of each class."""

import dataclasses
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ssl_jax import parallel
from ssl_jax.errors import UserError
from ssl_jax.evaluate.features import Features
from ssl_jax.evaluate.linear import classify, linear_classifier, standardize
from ssl_jax.evaluate.result import Protocol, Result, classified
from ssl_jax.evaluate.subject import Subject
from ssl_jax.fields import every, positive
from ssl_jax.words import number_of


@dataclasses.dataclass(frozen=True)
class Logistic(Protocol):
    """Logistic regression, fitted to convergence to all training images, and to a few of each class.

    The result for all is what training logs as `linear_top1`. The few are drawn several times.
    """

    shots: Annotated[tuple[int, ...], every(positive)] = (1, 5, 10)  # images of each class
    draws: Annotated[int, positive] = 5  # of the few
    cost: Annotated[float, positive] = 1.0  # C, the weight of the sum of the few's losses against |kernel|^2 / 2

    def check(self, subject):
        labels = np.asarray(subject.samples.bank.images.labels)
        least = min(np.bincount(labels[labels >= 0], minlength=len(subject.classes)))
        if max(self.shots, default=0) > least:
            fits = ",".join(str(one) for one in self.shots if one <= least) or least
            raise UserError(
                f"--logreg.shots is {','.join(map(str, self.shots))}, but a class has {number_of(least, 'image')} to "
                f"learn from; set it to {fits}"
            )

    def __call__(self, subject: Subject) -> Result:
        bank, test = (of._replace(x=subject.compact(of.x)) for of in subject.features())
        labels, classes = np.asarray(parallel.gather(bank.label)), len(subject.classes)
        result = classified(linear_classifier(bank.x, labels, classes)(test.x), test)
        if not self.shots:
            return result
        x, queries = standardize(bank.x, test.x, bank.position >= 0)  # that takes no labels
        test = test._replace(x=queries)
        rows = [{"shots": shots} | self.few(x, labels, test, shots, classes) for shots in self.shots]
        return result._replace(numbers=result.numbers | {"few": rows})

    def few(self, x: jax.Array, labels: np.ndarray, test: Features, shots: int, classes: int) -> dict[str, float]:
        """Returns the mean and the standard deviation over the draws of the accuracy in percent."""
        rows = np.stack([draw(labels, shots, seed) for seed in range(self.draws)])  # [S, n]
        strength = 1 / (self.cost * rows.shape[1])
        kernels = minimize(x[jnp.asarray(rows)], jnp.asarray(labels[rows]), classes, strength)
        accuracies = [classified(classify(test.x, kernel), test).numbers["top1"] for kernel in kernels]
        return {"top1": float(np.mean(accuracies)), "std": float(np.std(accuracies, ddof=min(1, self.draws - 1)))}


def draw(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Returns the positions of a few random images of each class; labels below 0 are unknown."""
    random = np.random.default_rng(seed)
    classes = np.unique(labels[labels >= 0])
    return np.concatenate([random.choice(np.flatnonzero(labels == one), shots, replace=False) for one in classes])


@partial(jax.jit, static_argnames=("classes", "steps"))
def minimize(x: jax.Array, labels: jax.Array, classes: int, strength: float, steps: int = 100) -> jax.Array:
    """Minimises the mean cross-entropy of softmax(x @ kernel) plus strength / 2 * |kernel|^2 by L-BFGS, S times.

    Args:
        x: [S, n, D], features, one of them constant for the bias.
        labels: [S, n], their classes.
        classes: the number of classes.
        strength: of the penalty.
        steps: of L-BFGS.

    Returns:
        The kernels [S, D, classes].
    """
    solver = optax.lbfgs()

    def solve(x, labels):
        def objective(kernel):
            each = optax.losses.softmax_cross_entropy_with_integer_labels(x @ kernel, labels)
            return jnp.mean(each) + strength / 2 * jnp.sum(kernel**2)

        def step(_, state: Any):
            kernel, opt_state = state
            value, slope = optax.value_and_grad_from_state(objective)(kernel, state=opt_state)
            move, opt_state = solver.update(slope, opt_state, kernel, value=value, grad=slope, value_fn=objective)
            return optax.apply_updates(kernel, move), opt_state

        start = jnp.zeros((x.shape[-1], classes), x.dtype)
        return jax.lax.fori_loop(0, steps, step, (start, solver.init(start)))[0]

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # inside optax
        return jax.vmap(solve)(x, labels)
