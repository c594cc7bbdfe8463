"""A linear classifier on frozen features, fitted to the end, and the raw-pixel baselines it is compared with."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

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
    of them. Two calls give the same number, and nothing is chosen by the test features.

    Args:
        train_features: [N, D] of any float type.
        train_labels: [N] in 0 .. classes - 1.
        features: [M, D] to be classified.
        labels: [M] their true classes.
        classes: how many classes there are.

    Returns: top-1 accuracy on the test features, in percent.
    """
    order = np.random.default_rng(0).permutation(len(train_features))  # folders come sorted by class
    x, test = standardize(jnp.asarray(train_features)[order], jnp.asarray(features))
    y = jnp.asarray(train_labels)[order]
    tenth = max(1, len(order) // 10)
    candidates = jax.vmap(fit, (None, None, None, 0))(x[tenth:], y[tenth:], classes, jnp.array(STRENGTHS, x.dtype))
    held_out = [top1(jnp.argmax(x[:tenth] @ kernel, -1), y[:tenth]) for kernel in candidates]
    kernel = fit(x, y, classes, STRENGTHS[int(np.argmax(held_out))])
    return top1(jnp.argmax(test @ kernel, -1), labels)


@partial(jax.jit, static_argnums=(2, 4))
def fit(x: jax.Array, labels: jax.Array, classes: int, strength: float, steps: int = 100) -> jax.Array:
    """Minimises the mean cross-entropy of softmax(x @ kernel) plus strength / 2 * |kernel|^2.

    The Hessian is nowhere larger than x.T @ x / 2N + strength, so its inverse is a safe step. In the eigenbasis of
    x.T @ x that is one rate per row of the kernel: no line search, and correlated features cost nothing. Accelerated
    after Nesterov, a hundred steps come within a few percent of the minimum.

    Args:
        x: [N, D] features, one of them constant for the bias.
        labels: [N] classes.
        classes: how many classes there are.
        strength: of the L2 penalty, in (1e-5, inf).
        steps: of the descent.

    Returns: the kernel [D, classes].

    Source: the bound is Boehning 1992, "Multinomial logistic regression algorithm", Ann. Inst. Stat. Math. 44.
    """
    eigenvalues, basis = jnp.linalg.eigh(x.T @ x / len(x))
    x = x @ basis
    rate = 1 / (jnp.maximum(eigenvalues, 0) / 2 + strength)
    target = jax.nn.one_hot(labels, classes, dtype=x.dtype)

    def descend(step, kernels):
        kernel, before = kernels
        k = step.astype(x.dtype)
        ahead = kernel + k / (k + 3) * (kernel - before)
        gradient = x.T @ (jax.nn.softmax(x @ ahead) - target) / len(x) + strength * ahead
        return ahead - rate[:, None] * gradient, kernel

    start = jnp.zeros((x.shape[1], classes), x.dtype)
    return basis @ jax.lax.fori_loop(0, steps, descend, (start, start))[0]


def standardize(train: jax.Array, test: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns both as [., D + 1]: the training mean and standard deviation taken out, a constant put in."""
    train, test = widen(train), widen(test)
    mean, std = jnp.mean(train, 0, keepdims=True), jnp.std(train, 0, keepdims=True)
    scale = jnp.where(std > 0, 1 / jnp.where(std > 0, std, 1), 0)  # a constant feature says nothing
    train, test = (jnp.pad((x - mean) * scale, ((0, 0), (0, 1)), constant_values=1) for x in (train, test))
    return train, test


def raw_baseline(train_images, train_labels, images, labels, classes: int) -> tuple[float, float]:
    """Measures what pixels alone give: an accuracy below is not a result.

    Args:
        train_images: [N, ...] pixels, on any scale.
        train_labels: [N] their classes.
        images: [M, ...] to be classified.
        labels: [M] their true classes.
        classes: how many classes there are.

    Returns: top-1 in percent of weighted cosine k-NN on mean-centred pixels, and of `linear_probe` on their
    first 128 principal components (a tenth of N if that is less).
    """
    train, test = (jnp.asarray(x).reshape(len(x), -1).astype(jnp.float32) for x in (train_images, images))
    mean = jnp.mean(train, 0, keepdims=True)
    train, test = train - mean, test - mean
    knn = top1(weighted_knn(train, jnp.asarray(train_labels), test, classes), labels)
    count = min(COMPONENTS, train.shape[1], max(1, len(train) // 10))  # fewer images do not determine that many
    basis = principal_components(train, count)
    return knn, linear_probe(train @ basis, train_labels, test @ basis, labels, classes)


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
    _, _, rotation = jnp.linalg.svd(x @ basis, full_matrices=False)
    return basis @ rotation[:count].T
