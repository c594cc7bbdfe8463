"""Losses of metric learning against loops over triplets and pairs, and closed forms."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.errors import UserError
from ssl_jax.losses import (
    circle,
    multi_similarity,
    proxy_anchor,
    proxy_nca,
    supervised_contrastive,
    supervised_info_nce,
    triplet,
)

LABEL = np.array([0, 1, 2, 0, 1, 2, 0, 3])  # the last one has no positive
ROWS = np.random.default_rng(0).normal(size=(len(LABEL), 3)).astype(np.float32)
ROWS /= np.linalg.norm(ROWS, axis=1, keepdims=True)
DISTANCE = np.linalg.norm(ROWS[:, None].astype(np.float64) - ROWS[None], axis=2)


def triplets():
    for a, p, n in itertools.permutations(range(len(LABEL)), 3):
        if LABEL[a] == LABEL[p] != LABEL[n]:
            yield DISTANCE[a, n] - DISTANCE[a, p]


@pytest.mark.parametrize(
    "mining, counts",
    [
        ("all", lambda gap: True),
        ("hard", lambda gap: gap <= 0),
        ("semihard", lambda gap: 0 < gap <= 0.3),
    ],
)
def test_triplets_that_violate_the_margin_are_averaged(mining, counts):
    terms = [0.3 - gap for gap in triplets() if counts(gap) and gap < 0.3]
    loss = triplet(jnp.asarray(ROWS), jnp.asarray(LABEL), 0.3, mining)
    np.testing.assert_allclose(loss, np.mean(terms), rtol=1e-4)


def test_batch_hard_takes_the_farthest_positive_and_the_nearest_negative():
    terms = []
    for a in range(len(LABEL)):
        positive = [DISTANCE[a, p] for p in range(len(LABEL)) if p != a and LABEL[p] == LABEL[a]]
        negative = [DISTANCE[a, n] for n in range(len(LABEL)) if LABEL[n] != LABEL[a]]
        if positive and max(positive) - min(negative) + 0.3 > 0:
            terms.append(max(positive) - min(negative) + 0.3)
    loss = triplet(jnp.asarray(ROWS), jnp.asarray(LABEL), 0.3, "batch_hard")
    np.testing.assert_allclose(loss, np.mean(terms), rtol=1e-4)


def test_an_unknown_way_of_mining_is_named():
    with pytest.raises(UserError, match="mining is 'semi'; did you mean 'semihard'"):
        triplet(jnp.asarray(ROWS), jnp.asarray(LABEL), 0.3, "semi")


ALL = {
    "triplet": lambda x, y: triplet(x, y, 0.3),
    "circle": lambda x, y: circle(x, y, 0.4, 20.0),
    "multi_similarity": multi_similarity,
    "supervised_info_nce": lambda x, y: supervised_info_nce(x, y, 0.2),
    "supervised_contrastive": lambda x, y: jnp.mean(supervised_contrastive(x, y, 0.2)),
}
EACH = pytest.mark.parametrize("loss", ALL.values(), ids=ALL)


@EACH
def test_names_of_classes_and_order_of_rows_do_not_matter(loss):
    order = np.random.default_rng(1).permutation(len(LABEL))
    renamed = (7 - LABEL)[order]
    np.testing.assert_allclose(
        loss(jnp.asarray(ROWS[order]), jnp.asarray(renamed)), loss(jnp.asarray(ROWS), jnp.asarray(LABEL)), rtol=1e-4
    )


@EACH
def test_classes_apart_cost_less_than_classes_mixed(loss):
    apart = jnp.eye(4)[jnp.array([0, 0, 1, 1, 2, 2])]
    label = jnp.array([0, 0, 1, 1, 2, 2])
    assert loss(apart, label) < loss(apart, jnp.array([0, 1, 1, 2, 2, 0])) - 0.05


@EACH
def test_without_positives_nothing_is_pulled_and_gradients_are_finite(loss):
    label = jnp.arange(len(LABEL))
    value, gradient = jax.value_and_grad(loss)(jnp.asarray(ROWS), label)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_equation_2_of_supcon():
    similarity = np.exp(ROWS @ ROWS.T / 0.2)
    for i, value in enumerate(supervised_contrastive(jnp.asarray(ROWS), jnp.asarray(LABEL), 0.2)):
        positives = [p for p in range(len(LABEL)) if p != i and LABEL[p] == LABEL[i]]
        shares = [similarity[i, p] / (similarity[i].sum() - similarity[i, i]) for p in positives]
        np.testing.assert_allclose(value, -np.mean(np.log(shares)) if shares else 0.0, rtol=1e-4)


def test_equal_proxies_tell_no_class_apart():
    proxies = jnp.broadcast_to(jnp.array([[1.0, 0.0, 0.0]]), (5, 3))
    np.testing.assert_allclose(proxy_nca(jnp.asarray(ROWS), jnp.asarray(LABEL), proxies, 9.0), np.log(5), rtol=1e-5)


def test_equation_4_of_proxy_anchor():
    proxies = np.random.default_rng(2).normal(size=(6, 3)).astype(np.float32)
    similarity = ROWS.astype(np.float64) @ proxies.T
    pull, push = [], []
    for c in range(6):
        inside = np.isin(LABEL, c)
        own = similarity[inside, c]
        push.append(np.log1p(np.exp(4 * (similarity[~inside, c] + 0.1)).sum()))
        if len(own):
            pull.append(np.log1p(np.exp(-4 * (own - 0.1)).sum()))
    loss = proxy_anchor(jnp.asarray(ROWS), jnp.asarray(LABEL), jnp.asarray(proxies), 0.1, 4.0)
    np.testing.assert_allclose(loss, np.mean(pull) + np.mean(push), rtol=1e-4)


def test_multi_similarity_mines_the_pairs_that_the_paper_says():
    random = np.random.default_rng(3)
    x = random.normal(size=(10, 4))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    label = np.arange(10) % 3
    s, terms = x @ x.T, []
    for i in range(10):
        positives = [s[i, j] for j in range(10) if label[j] == label[i] and j != i]
        negatives = [s[i, j] for j in range(10) if label[j] != label[i]]
        near = [value for value in positives if value < max(negatives) + 0.1]
        far = [value for value in negatives if value > min(positives) - 0.1]
        terms.append(np.log1p(sum(np.exp(-2 * (v - 0.5)) for v in near)) / 2)
        terms[-1] += np.log1p(sum(np.exp(50 * (v - 0.5)) for v in far)) / 50
    ours = multi_similarity(jnp.asarray(x, jnp.float32), jnp.asarray(label))
    np.testing.assert_allclose(ours, np.mean(terms), rtol=1e-5)
    unmined = multi_similarity(jnp.asarray(x, jnp.float32), jnp.asarray(label), epsilon=None)
    assert not np.isclose(ours, unmined, rtol=1e-4)
