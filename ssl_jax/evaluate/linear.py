"""Logistic regression on frozen features, fitted to convergence, and the raw-pixel baselines."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ssl_jax import parallel
from ssl_jax.evaluate.features import Features
from ssl_jax.evaluate.knn import top1, weighted_knn
from ssl_jax.numeric import widen

STRENGTHS = (
    1.0,
    1e-1,
    1e-2,
    1e-3,
    1e-4,
)  # of the L2 penalty on the mean cross-entropy; of equally good ones the first is taken
COMPONENTS = 128  # principal components of raw pixels
OVERSAMPLED = 16  # extra directions, and
POWERS = 6  # rounds of subspace iteration, after which the leading components are practically exact


class Scaling(NamedTuple):
    """What standardises features."""

    mean: jax.Array  # [1, D]
    factor: jax.Array  # [1, D]

    def __call__(self, x: jax.Array) -> jax.Array:
        return (x - self.mean) * self.factor


def linear_probe(train_features, train_labels, features, labels, classes: int) -> float:
    """Fits multinomial logistic regression to frozen features, see `linear_classifier`, and tests it.

    Args:
        train_features: [N, D] of any float type.
        train_labels: [N] on the host, in 0 .. classes - 1; rows with a negative label are ignored.
        features: [M, D], the test features.
        labels: [M] on the host, their true classes; rows with a negative label are ignored.
        classes: the number of classes.

    Returns:
        Top-1 accuracy on the test features, in percent.
    """
    return top1(parallel.gather(linear_classifier(train_features, train_labels, classes)(features)), labels)


def linear_classifier(features, labels, classes: int) -> Callable[[jax.Array], jax.Array]:
    """Fits multinomial logistic regression to frozen features, deterministically.

    The features are standardised. The strength of the L2 penalty is the one of `STRENGTHS` that does best on a held-out
    tenth; the classifier is then fitted to all of them. Rows that are split over devices are not moved; only sums over
    them are communicated.

    Args:
        features: [N, D] of any float type.
        labels: [N] on the host, in 0 .. classes - 1; rows with a negative label are ignored.
        classes: the number of classes.

    Returns:
        A function from features [M, D] to their classes [M].
    """
    labels = np.asarray(labels)
    x = widen(jnp.asarray(features))
    scale = scaling(x, labels >= 0)
    x = with_constant(scale, x)
    known = np.flatnonzero(labels >= 0)
    order = np.random.default_rng(0).permutation(len(known))  # the images of a folder are sorted by class
    held_out = known[order[: max(1, len(known) // 10)]]
    others = labels.copy()
    others[held_out] = -1
    candidates = jax.vmap(fit, (None, None, None, 0))(x, others, classes, jnp.array(STRENGTHS, x.dtype))
    guesses = parallel.gather(jax.vmap(classify, (None, 0))(x, candidates))
    scores = [top1(guess[held_out], labels[held_out]) for guess in guesses]
    kernel = fit(x, labels, classes, STRENGTHS[int(np.argmax(scores))])
    return lambda features: classify(with_constant(scale, widen(jnp.asarray(features))), kernel)


@jax.jit
def classify(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the classes [N] that a kernel [D, classes] predicts for features [N, D]."""
    return jnp.argmax(x @ kernel, -1)


@partial(jax.jit, static_argnums=(2, 4))
def fit(x: jax.Array, labels: jax.Array, classes: int, strength: float, steps: int = 100) -> jax.Array:
    """Minimises the mean cross-entropy of softmax(x @ kernel) plus strength / 2 * |kernel|^2.

    The Hessian is bounded by x.T @ x / 2N + strength, so the inverse of that bound is a safe step. In the eigenbasis of
    x.T @ x it is one rate per row of the kernel: no line search is needed, and correlated features do not slow the
    descent. With Nesterov's acceleration, a hundred steps come within a few percent of the minimum.

    Args:
        x: [N, D] features, one of them constant for the bias.
        labels: [N] classes; rows with a negative label are ignored.
        classes: the number of classes.
        strength: the strength of the L2 penalty, in (1e-5, inf).
        steps: the number of steps of the descent.

    Returns:
        The kernel [D, classes].

    Source: for the bound, Boehning 1992, "Multinomial logistic regression algorithm", Ann. Inst. Stat. Math. 44.
    """
    known = (labels >= 0).astype(x.dtype)[:, None]
    count = jnp.sum(known)
    x = x * known
    eigenvalues, basis = jnp.linalg.eigh(x.T @ x / count)
    x = x @ basis
    rate = 1 / (jnp.maximum(eigenvalues, 0) / 2 + strength)
    target = jax.nn.one_hot(labels, classes, dtype=x.dtype)

    def descend(step, kernels):
        kernel, before = kernels
        k = step.astype(x.dtype)
        ahead = kernel + k / (k + 3) * (kernel - before)
        gradient = x.T @ (jax.nn.softmax(x @ ahead) - target) / count + strength * ahead
        return ahead - rate[:, None] * gradient, kernel

    start = jnp.zeros((x.shape[1], classes), x.dtype)
    return basis @ jax.lax.fori_loop(0, steps, descend, (start, start))[0]


def standardize(train: jax.Array, test: jax.Array, known: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns both as [., D + 1], standardised by the known training rows, with a constant feature appended."""
    train, test = widen(train), widen(test)
    scale = scaling(train, known)
    return with_constant(scale, train), with_constant(scale, test)


@jax.jit
def with_constant(scale: Scaling, x: jax.Array) -> jax.Array:
    """Returns standardised features with a constant one appended, [N, D + 1]."""
    return jnp.pad(scale(x), ((0, 0), (0, 1)), constant_values=1)


@jax.jit
def scaling(x: jax.Array, known: jax.Array) -> Scaling:
    """Returns what gives features [N, D] zero mean and unit deviation over the rows that a bool [N] marks."""
    mean, std = (over(x, axis=0, keepdims=True, where=known[:, None]) for over in (jnp.mean, jnp.std))
    return Scaling(mean, jnp.where(std > 0, 1 / jnp.where(std > 0, std, 1), 0))  # a constant feature becomes 0


def raw_baseline(bank: Features, test: Features, classes: int, mesh: Mesh | None = None) -> tuple[float, float]:
    """Measures the accuracy of raw pixels, which useful features must exceed.

    Args:
        bank: pixels on any scale, with labels.
        test: pixels to classify, and their true labels.
        classes: the number of classes.
        mesh: the devices over which they are split by rows; None: one device has all.

    Returns:
        Top-1 in percent of weighted cosine k-NN on mean-centred pixels, and of `linear_probe` on their first 128
        principal components (or N / 10, if that is less).
    """
    labels, test_labels, index = parallel.gather((bank.label, test.label, bank.position))
    train, queries = center(bank.x, test.x, bank.position >= 0)
    predicted = weighted_knn(train, bank.label, queries, classes, valid=bank.position >= 0, mesh=mesh)
    knn = top1(parallel.gather(predicted), test_labels)
    count = min(
        COMPONENTS, train.shape[1], max(1, int(np.sum(index >= 0)) // 10)
    )  # fewer images do not determine that many components
    basis = principal_components(train, count)
    return knn, linear_probe(train @ basis, labels, queries @ basis, test_labels, classes)


@jax.jit
def center(train: jax.Array, test: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns both in float32, centred by the mean of the valid training rows; the other training rows become 0."""
    train, test = train.astype(jnp.float32), test.astype(jnp.float32)
    mean = jnp.mean(train, 0, keepdims=True, where=valid[:, None])
    return jnp.where(valid[:, None], train - mean, 0), test - mean


@partial(jax.jit, static_argnames="count")
def principal_components(x: jax.Array, count: int) -> jax.Array:
    """Returns the leading principal directions [D, count] of centred rows x [N, D] as orthonormal columns.

    Subspace iteration from a fixed random start: the cost is O(N * D * count) instead of O(D**3), without a D x D
    matrix.

    Source: Halko et al. 2011 (arXiv:0909.4061), algorithm 4.4.
    """
    wanted = min(count + OVERSAMPLED, *x.shape)
    basis = jax.random.normal(jax.random.key(0), (x.shape[1], wanted), x.dtype)
    for _ in range(POWERS):
        basis, _ = jnp.linalg.qr(x.T @ (x @ basis))
    inside = x @ basis
    _, rotation = jnp.linalg.eigh(inside.T @ inside)  # smallest first; needs only a sum over the rows
    return basis @ rotation[:, ::-1][:, :count]
