"""Contrastive losses against slow transcriptions of their equations, closed forms and invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.losses import contrastive_cross_entropy, info_nce, info_nce_pairs, nt_xent


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def equation_1(embedding, i, positives, temperature):
    """l(i, j) of SimCLR, written out; more positives than one are added in the numerator."""
    similarity = [np.exp(np.float64(embedding[i] @ other) / temperature) for other in embedding]
    return -np.log(sum(similarity[j] for j in positives) / sum(s for k, s in enumerate(similarity) if k != i))


@pytest.mark.parametrize("views", [2, 3])
def test_nt_xent_is_the_sum_of_the_directions(views):
    images, temperature = 5, 0.3
    projection = normal(0, images, views, 8)
    rows = unit(projection).reshape(images * views, 8)
    total = 0.0
    for i in range(images * views):
        positives = [j for j in range(images * views) if j // views == i // views and j != i]
        total += equation_1(rows, i, positives, temperature)
    np.testing.assert_allclose(nt_xent(jnp.asarray(projection), temperature), total / images, rtol=1e-5)


@pytest.mark.parametrize("images", [2, 32])
def test_nt_xent_where_all_embeddings_agree(images):
    loss = nt_xent(jnp.ones((images, 2, 4)), 0.1)
    np.testing.assert_allclose(loss, 2 * np.log(2 * images - 1), rtol=1e-5)


def test_nt_xent_where_only_views_of_an_image_agree():
    """With orthonormal images each of the 2B anchors has one exp(1/tau) and 2B - 2 ones."""
    images, temperature = 6, 0.5
    projection = jnp.repeat(jnp.eye(images)[:, None], 2, axis=1)
    expected = 2 * np.log1p((2 * images - 2) * np.exp(-1 / temperature))
    np.testing.assert_allclose(nt_xent(projection, temperature), expected, rtol=1e-5)


def test_nt_xent_knows_no_length_no_order_and_no_rotation():
    projection = normal(1, 6, 2, 5)
    loss = nt_xent(jnp.asarray(projection), 0.2)
    rotation, _ = np.linalg.qr(normal(2, 5, 5))
    lengths = np.exp(normal(3, 6, 2, 1))
    for same in (projection * lengths, projection[::-1], projection[:, ::-1], projection @ rotation):
        np.testing.assert_allclose(nt_xent(jnp.asarray(same), 0.2), loss, rtol=1e-5)


def test_nt_xent_is_finite_at_any_temperature_and_in_half_precision():
    projection = jnp.asarray(normal(4, 4, 2, 8))
    for temperature in (1e-3, 1e3):
        loss, grad = jax.value_and_grad(nt_xent)(projection, temperature)
        assert np.isfinite(loss) and np.isfinite(grad).all()
    half = nt_xent(projection.astype(jnp.bfloat16), 0.1)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, nt_xent(projection, 0.1), rtol=0.05)


def test_contrastive_cross_entropy_of_labels():
    embedding, label, temperature = normal(5, 7, 4), np.array([0, 1, 0, 2, 1, 2, 0]), 0.7
    expected = []
    for i in range(7):
        positives = [j for j in range(7) if label[j] == label[i] and j != i]
        expected.append(equation_1(embedding, i, positives, temperature))
    alike = jnp.asarray(label[:, None] == label[None, :])
    np.testing.assert_allclose(
        contrastive_cross_entropy(jnp.asarray(embedding), alike, temperature), expected, rtol=1e-5
    )


def test_info_nce_is_cross_entropy_with_the_key_in_front():
    query, key, queue, temperature = unit(normal(6, 4, 8)), unit(normal(7, 4, 8)), unit(normal(8, 12, 8)), 0.07
    losses = []
    for q, k in zip(query, key, strict=True):
        logits = np.array([q @ k, *(q @ n for n in queue)], np.float64) / temperature
        losses.append(np.log(np.exp(logits).sum()) - logits[0])
    ours = info_nce(*map(jnp.asarray, (query, key, queue)), temperature)
    np.testing.assert_allclose(ours, np.mean(losses), rtol=1e-5)


def test_info_nce_of_several_views_with_the_keys_of_the_batch_among_the_negatives():
    query, key, queue, temperature = unit(normal(6, 4, 3, 8)), unit(normal(7, 4, 8)), unit(normal(8, 12, 8)), 0.07
    for in_batch in (False, True):
        losses = []
        for image, view in np.ndindex(4, 3):
            others = [k for i, k in enumerate(key) if i != image] if in_batch else []
            logits = np.array([query[image, view] @ k for k in (key[image], *others, *queue)], np.float64) / temperature
            losses.append(np.log(np.exp(logits).sum()) - logits[0])
        ours = info_nce(*map(jnp.asarray, (query, key, queue)), temperature, in_batch)
        np.testing.assert_allclose(ours, np.mean(losses), rtol=1e-5)


def test_info_nce_at_random_similarity_and_at_the_optimum():
    zero, queue = jnp.zeros((4, 8)), jnp.asarray(normal(9, 31, 8))
    np.testing.assert_allclose(info_nce(zero, zero, queue, 0.2), np.log(32), rtol=1e-6)
    assert info_nce(jnp.eye(4), jnp.eye(4), -jnp.ones((31, 4)), 0.05) < 1e-6


def test_info_nce_does_not_overflow():
    """Similarities of 1 and -1 at a temperature of 1e-3 are logits of 1000 and -1000."""
    query = jnp.eye(4)
    np.testing.assert_allclose(info_nce(query, -query, query, 1e-3), 2000.0, rtol=1e-5)
    np.testing.assert_allclose(info_nce_pairs(query, -query, 1e-3), 2e-3 * (1000 + np.log(3)), rtol=1e-5)


def test_info_nce_pairs_has_the_factor_two_tau():
    query, key, temperature = unit(normal(10, 6, 8)), unit(normal(11, 6, 8)), 0.2
    logits = np.float64(query @ key.T) / temperature
    cross_entropy = np.mean(np.log(np.exp(logits).sum(1)) - np.diag(logits))
    ours = info_nce_pairs(jnp.asarray(query), jnp.asarray(key), temperature)
    np.testing.assert_allclose(ours, 2 * temperature * cross_entropy, rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_info_nce_pairs_at_random_similarity(temperature):
    loss = info_nce_pairs(jnp.zeros((64, 8)), jnp.zeros((64, 8)), temperature)
    np.testing.assert_allclose(loss, 2 * temperature * np.log(64), rtol=1e-6)
