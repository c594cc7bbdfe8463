"""Multi-crop for every method that compares views: small ones are only predicted from or used as queries."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ssl_jax.augment import Views
from ssl_jax.method import Variables, apply
from ssl_jax.methods import METHODS
from ssl_jax.networks import MLP, Network
from ssl_jax.numeric import as_rows

LARGE, SMALL, PATCHES, IMAGES = 2, 2, 4, 20
INDEX = np.arange(toy.BATCH) * 2
TAU = 0.3
MOMENTUM = {"decay": lambda step: 0.9}
QUEUE = {"queue_size": 2 * toy.BATCH, "temperature": TAU}
HEAD = MLP(toy.DIMENSION, layers=1)
PIXELS = Network(toy.Pixels(), HEAD, dense=HEAD)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def cosine(x, y):
    return np.mean(np.sum(unit(x) * unit(y), axis=1))


def cross_entropy(logits, label):
    return np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(logits)), label])


def directed(views):
    """(a, v): the target of a large view a, from any other view v; SwAV (arXiv:2006.09882), equation 6."""
    return [(a, v) for a in range(LARGE) for v in range(views) if a != v]


def unordered(views):
    """The same pairs for symmetric losses: each counts once."""
    return [(a, v) for a, v in directed(views) if a < v or v >= LARGE]


def one_key(views):
    """The key is the second large view."""
    return [(1, v) for v in range(views) if v != 1]


def each_view(views):
    """All views predict the cluster of their image."""
    return [(0, v) for v in range(views)]


# The loss of one pair: `online` and `target` are the outputs of the two networks for all views, in float64.
def byol(method, state, online, target, a, v):
    return 2 * (2 - 2 * cosine(online.prediction[:, v], target.projection[:, a]))


def simsiam(method, state, online, target, a, v):
    return -cosine(online.prediction[:, v], online.projection[:, a])


def nnclr(method, state, online, target, a, v):
    past, z, p = np.asarray(as_rows(state.queue)), unit(online.projection), unit(online.prediction)
    return cross_entropy(past[(z[:, a] @ past.T).argmax(1)] @ p[:, v].T / TAU, np.arange(toy.BATCH))


def find_key(method, state, online, target, a, v):
    query, key = unit(online.projection[:, v]), unit(target.projection[:, a])
    others = query @ np.asarray(as_rows(state.queue)).T
    return cross_entropy(np.concatenate([np.sum(query * key, 1)[:, None], others], 1) / TAU, 0)


def find_either_key(*pair):
    return 2 * find_key(*pair)  # the directions are added


def moco_v3(method, state, online, target, a, v):
    query, key = unit(online.prediction[:, v]), unit(target.projection[:, a])
    return 2 * 2 * TAU * cross_entropy(query @ key.T / TAU, np.arange(toy.BATCH))  # 2 directions, each times 2 tau


def swav(method, state, online, target, a, v):
    rows = np.exp(online.prediction[:, a] / method.epsilon)
    for _ in range(method.iterations):
        rows /= rows.sum(0, keepdims=True)
        rows /= rows.sum(1, keepdims=True)
    logits = online.prediction[:, v] / method.temperature
    return -np.mean(np.sum(rows * (logits - np.log(np.exp(logits).sum(1, keepdims=True))), axis=1))


def deepcluster_v2(method, state, online, target, a, v):
    z, heads = unit(online.projection[:, v]), range(method.heads)
    logits = [z @ np.asarray(state.centroids[h]).T / method.temperature for h in heads]
    return np.mean([cross_entropy(logits[h], np.asarray(state.assignment)[INDEX, h]) for h in heads])


def dino(method, state, online, target, a, v):
    targets = np.exp((target.prediction[:, a] - np.asarray(state.center)) / 0.04)
    logits = online.prediction[:, v] / method.temperature
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -np.mean(np.sum(targets / targets.sum(1, keepdims=True) * log_p, axis=1))


def similarities(online, a, v):
    """Over the 2B rows of two views, without each row itself in its sum."""
    rows = unit(np.concatenate([online.projection[:, a], online.projection[:, v]]))
    share = np.exp(rows @ rows.T / TAU)
    np.fill_diagonal(share, 0)
    partner = np.roll(np.arange(len(rows)), toy.BATCH)
    return share / share.sum(1, keepdims=True), partner


def simclr(method, state, online, target, a, v):
    share, partner = similarities(online, a, v)
    return -2 * np.mean(np.log(share[np.arange(len(share)), partner]))


def invaspread(method, state, online, target, a, v):
    share, partner = similarities(online, a, v)
    found = np.log(share[np.arange(len(share)), partner])
    refused = np.log(1 - share)
    refused[np.arange(len(share)), partner] = 0
    return -np.mean(found + refused.sum(1))


def barlow_twins(method, state, online, target, a, v):
    x, y = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (online.projection[:, a], online.projection[:, v]))
    correlation = x.T @ y / len(x)
    own = np.diag(correlation)
    return method.scale * (np.sum((1 - own) ** 2) + method.weight * (np.sum(correlation**2) - np.sum(own**2)))


def vicreg(method, state, online, target, a, v):
    x, y = online.projection[:, a], online.projection[:, v]
    loss = 25 * np.mean((x - y) ** 2)
    for z in (x, y):
        loss += 25 * np.mean(np.maximum(0, 1 - np.sqrt(z.var(0, ddof=1) + 1e-4))) / 2
        matrix = np.cov(z.T)
        loss += (np.sum(matrix**2) - np.sum(np.diag(matrix) ** 2)) / toy.DIMENSION
    return loss


def make(name, predictor=None, network=None, **fields):
    return METHODS[name](network or toy.network(predictor), **fields)


# Further terms that a method adds to MoCo have weight 0 here, and tests of their own.
ROWS = {
    "byol": (make("byol", "mlp", **MOMENTUM), directed, byol),
    "simsiam": (make("simsiam", "mlp"), directed, simsiam),
    "nnclr": (make("nnclr", "mlp", **QUEUE), directed, nnclr),
    "swav": (make("swav", "prototypes"), directed, swav),
    "swav with a queue": (make("swav", "prototypes", queue_size=2 * toy.BATCH, queue_from=9), directed, swav),
    "moco": (make("moco", **MOMENTUM, **QUEUE), one_key, find_key),
    "symmetric moco": (make("moco", **MOMENTUM, **QUEUE, symmetric=True), directed, find_either_key),
    "moco_v3": (make("moco_v3", "mlp", **MOMENTUM, temperature=TAU), directed, moco_v3),
    "densecl": (make("densecl", network=PIXELS, **MOMENTUM, **QUEUE, weight=0.0), one_key, find_key),
    "cast": (make("cast", network=PIXELS, **MOMENTUM, **QUEUE, weight=0.0), one_key, find_key),
    "infomin": (make("infomin", **MOMENTUM, **QUEUE, weight=0.0), one_key, find_key),
    "dino": (make("dino", "prototypes", **MOMENTUM, teacher_temperature=lambda step: 0.04), directed, dino),
    "deepcluster_v2": (
        make("deepcluster_v2", images=IMAGES, every=4, prototypes=3, heads=3),
        each_view,
        deepcluster_v2,
    ),
    "simclr": (make("simclr", temperature=TAU), unordered, simclr),
    "invaspread": (make("invaspread", temperature=TAU), unordered, invaspread),
    "barlow_twins": (make("barlow_twins", weight=0.1, scale=0.5), unordered, barlow_twins),
    "vicreg": (make("vicreg"), unordered, vicreg),
}
EACH = pytest.mark.parametrize("name", ROWS)


def make_batch(name, small=SMALL, seed=1):
    batch = toy.batch(seed, small=small) | {"index": jnp.asarray(INDEX)}
    if name == "cast":
        shape = toy.BATCH, LARGE + small, toy.SIZE, toy.SIZE
        salience = jax.random.bernoulli(jax.random.key(9), 0.5, shape).astype(float)
        batch["salience"] = tuple(jnp.split(salience, [LARGE], axis=1))
    if name == "infomin":
        views, (patches,) = batch["views"], toy.batch(seed + 50, PATCHES)["views"]
        batch["views"] = Views([*views, patches], [*views.roles, "patch"])
    return batch


def start(name, method, small=SMALL):
    """Parameters and a state in the middle of training: the target lags behind, clusters are known."""
    params, state = method.init(jax.random.key(0), make_batch(name, small))
    if "target" in state._fields:
        target = state.target._replace(params=jax.tree.map(lambda x: 0.8 * x + 0.1, state.target.params))
        return params, state._replace(target=target)
    if name == "deepcluster_v2":
        state = toy.loss(method, params, state, make_batch(name, small, seed=3)).state
        return method.after_step(params, state, jax.random.key(3), jnp.int32(3))
    return params, state


@EACH
@pytest.mark.parametrize("small", [0, SMALL])
def test_the_loss_is_the_mean_over_the_pairs_of_a_large_view_and_another(name, small):
    method, pairs, cost = ROWS[name]
    params, state = start(name, method, small)
    batch = make_batch(name, small)
    views = batch["views"].of("large", "small")
    trained = Variables(params["network"], state.stats)
    online, _ = apply(method.network, trained, views)
    target, _ = apply(method.network, getattr(state, "target", trained), views)
    online, target = jax.tree.map(lambda x: np.asarray(x, np.float64), (online, target))
    expected = np.mean([cost(method, state, online, target, a, v) for a, v in pairs(LARGE + small)])
    np.testing.assert_allclose(toy.loss(method, params, state, batch).loss, expected, rtol=1e-4)


@EACH
def test_small_views_reach_the_loss_and_nothing_that_is_remembered(name):
    """Statistics of a target network, queues, memories and assignments do not change."""
    method = ROWS[name][0]
    normed = method.network.clone(projector=MLP(toy.DIMENSION, layers=1, last_norm="batch"), passes="view")
    method = dataclasses.replace(method, network=normed)
    params, state = start(name, method)
    batch = make_batch(name)
    roles = batch["views"].roles
    # Not an affine change, which a BatchNorm would undo.
    moved = Views(
        [jnp.sin(3 * x) if role == "small" else x for x, role in zip(batch["views"], roles, strict=True)], roles
    )
    before, after = (toy.loss(method, params, state, one) for one in (batch, batch | {"views": moved}))
    assert abs(before.loss - after.loss) > 1e-4
    jax.tree.map(np.testing.assert_array_equal, *(x.state._replace(stats=None) for x in (before, after)))
    np.testing.assert_array_equal(before.features, after.features)


@pytest.mark.parametrize(
    ("name", "part"), [("densecl", "dense_loss"), ("cast", "cam_loss"), ("infomin", "jigsaw_loss")]
)
def test_what_is_added_to_moco_does_not_see_small_views(name, part):
    params, state = start(name, ROWS[name][0])
    batch = make_batch(name)
    without = batch | {"views": batch["views"].of("large", "patch")}
    one, other = (toy.loss(ROWS[name][0], params, state, x) for x in (without, batch))
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(one.loss, other.loss, rtol=1e-4)
    np.testing.assert_allclose(one.metrics[part], other.metrics[part], rtol=1e-5)
