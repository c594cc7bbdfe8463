"""A linear classifier on frozen features, fitted to the end, and the raw-pixel baselines it is compared with."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ssl_jax import parallel
from ssl_jax.evaluate.features import Features
from ssl_jax.evaluate.knn import top1, weighted_knn
from ssl_jax.numeric import widen

STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)  # of the L2 penalty, beside the mean cross-entropy; the first wins a tie
COMPONENTS = 128  # principal components of raw pixels
OVERSAMPLED = 16  # directions more than wanted, and
POWERS = 6  # rounds of subspace iteration: the leading components are then as good as exact


def linear_probe(train_features, train_labels, features, labels, classes: int) -> float:
    """Fits multinomial logistic regression to frozen features and tests it.

    The features are standardised with the training statistics. Of the strengths of the L2 penalty in `STRENGTHS`, all
    fitted in one pass, the one that does best on a held-out tenth of the training features is taken and fitted to all
    of them. Two calls give the same number, and nothing is chosen by the test features. Rows that are split over
    devices stay there: only sums over them travel.

    Args:
        train_features: [N, D] of any float type.
        train_labels: [N] on the host, in 0 .. classes - 1; rows with a negative one are left out.
        features: [M, D] to be classified.
        labels: [M] on the host, their true classes; rows with a negative one are left out.
        classes: how many classes there are.

    Returns:
        Top-1 accuracy on the test features, in percent.
    """
    train_labels = np.asarray(train_labels)
    x, test = standardize(jnp.asarray(train_features), jnp.asarray(features), train_labels >= 0)
    known = np.flatnonzero(train_labels >= 0)
    order = np.random.default_rng(0).permutation(len(known))  # folders come sorted by class
    held_out = known[order[: max(1, len(known) // 10)]]
    others = train_labels.copy()
    others[held_out] = -1
    candidates = jax.vmap(fit, (None, None, None, 0))(x, others, classes, jnp.array(STRENGTHS, x.dtype))
    guesses = parallel.gather(jax.vmap(classify, (None, 0))(x, candidates))
    scores = [top1(guess[held_out], train_labels[held_out]) for guess in guesses]
    kernel = fit(x, train_labels, classes, STRENGTHS[int(np.argmax(scores))])
    return top1(parallel.gather(classify(test, kernel)), labels)


@jax.jit
def classify(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the classes [N] that a kernel [D, classes] gives to features [N, D]."""
    return jnp.argmax(x @ kernel, -1)


@partial(jax.jit, static_argnums=(2, 4))
def fit(x: jax.Array, labels: jax.Array, classes: int, strength: float, steps: int = 100) -> jax.Array:
    """Minimises the mean cross-entropy of softmax(x @ kernel) plus strength / 2 * |kernel|^2.

    The Hessian is nowhere larger than x.T @ x / 2N + strength, so its inverse is a safe step. In the eigenbasis of
    x.T @ x that is one rate per row of the kernel: no line search, and correlated features cost nothing. Accelerated
    after Nesterov, a hundred steps come within a few percent of the minimum.

    Args:
        x: [N, D] features, one of them constant for the bias.
        labels: [N] classes; rows with a negative one are left out.
        classes: how many classes there are.
        strength: of the L2 penalty, in (1e-5, inf).
        steps: of the descent.

    Returns:
        The kernel [D, classes].

    Source: the bound is Boehning 1992, "Multinomial logistic regression algorithm", Ann. Inst. Stat. Math. 44.
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


@jax.jit
def standardize(train: jax.Array, test: jax.Array, known: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns both as [., D + 1]: mean and standard deviation of the known training rows out, a constant put in."""
    train, test = widen(train), widen(test)
    mean, std = (over(train, axis=0, keepdims=True, where=known[:, None]) for over in (jnp.mean, jnp.std))
    scale = jnp.where(std > 0, 1 / jnp.where(std > 0, std, 1), 0)  # a constant feature says nothing
    train, test = (jnp.pad((x - mean) * scale, ((0, 0), (0, 1)), constant_values=1) for x in (train, test))
    return train, test


def raw_baseline(bank: Features, test: Features, classes: int, mesh: Mesh | None = None) -> tuple[float, float]:
    """Measures what pixels alone give: an accuracy below is not a result.

    Args:
        bank: pixels on any scale, with labels.
        test: pixels to be classified, and their true labels.
        classes: how many classes there are.
        mesh: the devices that share their rows; None: one device has all.

    Returns:
        Top-1 in percent of weighted cosine k-NN on mean-centred pixels, and of `linear_probe` on their first 128
        principal components (a tenth of N if that is less).
    """
    labels, test_labels, index = parallel.gather((bank.label, test.label, bank.position))
    train, queries = center(bank.x, test.x, bank.position >= 0)
    predicted = weighted_knn(train, bank.label, queries, classes, valid=bank.position >= 0, mesh=mesh)
    knn = top1(parallel.gather(predicted), test_labels)
    count = min(COMPONENTS, train.shape[1], max(1, int(np.sum(index >= 0)) // 10))  # fewer do not determine that many
    basis = principal_components(train, count)
    return knn, linear_probe(train @ basis, labels, queries @ basis, test_labels, classes)


@jax.jit
def center(train: jax.Array, test: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns both in float32 without the mean of the valid training rows; the others become 0."""
    train, test = train.astype(jnp.float32), test.astype(jnp.float32)
    mean = jnp.mean(train, 0, keepdims=True, where=valid[:, None])
    return jnp.where(valid[:, None], train - mean, 0), test - mean


@partial(jax.jit, static_argnames="count")
def principal_components(x: jax.Array, count: int) -> jax.Array:
    """Returns the leading principal directions [D, count] of centred rows x [N, D] as orthonormal columns.

    Subspace iteration from a fixed random start: its cost grows with N * D * count, not with D cubed, and no D x D
    matrix is made. Source: Halko et al. 2011 (arXiv:0909.4061), algorithm 4.4.
    """
    wanted = min(count + OVERSAMPLED, *x.shape)
    basis = jax.random.normal(jax.random.key(0), (x.shape[1], wanted), x.dtype)
    for _ in range(POWERS):
        basis, _ = jnp.linalg.qr(x.T @ (x @ basis))
    inside = x @ basis
    _, rotation = jnp.linalg.eigh(inside.T @ inside)  # smallest first; no device needs all rows for it
    return basis @ rotation[:, ::-1][:, :count]
