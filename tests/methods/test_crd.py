"""What CRD promises beyond the contract."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ssl_jax.errors import UserError
from ssl_jax.memory import sample_other_classes
from ssl_jax.method import Variables
from ssl_jax.methods import METHODS
from ssl_jax.methods.labelled import through
from ssl_jax.teacher import Teacher

IMAGES, CLASSES, NEGATIVES = 20, 3, 7
INDEX = np.arange(toy.BATCH, dtype=np.int32) * 2
LABEL = np.arange(toy.BATCH, dtype=np.int32) % CLASSES


@functools.cache
def method():
    """Its teacher is another network of the toy kind, which sees the images as they are."""
    network = toy.network()
    variables = network.init(jax.random.key(5), toy.batch(views=1)["views"])
    teacher = Teacher(network, pathlib.Path(), lambda images: images)
    teacher.__dict__["variables"] = Variables(variables["params"], {})
    return METHODS["crd"](network, IMAGES, CLASSES, teacher, temperature=0.5, negatives=NEGATIVES)


def step(method, params, state, seed=1):
    batch = toy.batch(seed, views=1) | {"index": jnp.asarray(INDEX), "label": jnp.asarray(LABEL)}
    return toy.loss(method, params, state, batch, seed)


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_the_loss_is_two_contrasts_with_the_other_s_memory_and_a_cross_entropy():
    params, state = method().init(jax.random.key(0), toy.batch(views=1))
    loss, after, _, features, embeddings = step(method(), params, state)
    images = toy.batch(1, views=1)["views"][0][:, 0]
    student = unit(embeddings[:, 0])
    teacher = unit(through(params["teacher_embedding"], method().teacher.features(state.teacher, images)))
    labels = np.asarray(after.labels)[:IMAGES]
    drawn = np.asarray(sample_other_classes(jax.random.key(1), INDEX, jnp.asarray(labels), NEGATIVES))
    expected, noise, normalizers = 0.0, NEGATIVES / IMAGES, []
    for rows, bank in ((student, state.teacher_bank), (teacher, state.student_bank)):
        weights = np.exp(np.einsum("bd,bkd->bk", rows, np.asarray(bank, np.float64)[drawn]) / 0.5)
        normalizers.append(weights.mean() * IMAGES)
        p = weights / normalizers[-1]
        expected -= 0.8 * np.mean(np.log(p[:, 0] / (p[:, 0] + noise)) + np.log(noise / (p[:, 1:] + noise)).sum(1))
    logits = np.asarray(through(params["classifier"], features), np.float64)
    expected += np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(toy.BATCH), LABEL])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(after.normalizers, normalizers, rtol=1e-5)
    for new, old, rows in (
        (after.student_bank, state.student_bank, student),
        (after.teacher_bank, state.teacher_bank, teacher),
    ):
        np.testing.assert_allclose(new[INDEX], unit(np.asarray(old[INDEX]) + rows), rtol=1e-4, atol=1e-6)


def test_features_in_training_are_those_of_the_student():
    params, state = method().init(jax.random.key(0), toy.batch(views=1))
    images = toy.batch(1, views=1)["views"][0][:, 0]
    expected = method().features(params, state, images)
    np.testing.assert_allclose(step(method(), params, state).features, expected, rtol=1e-5, atol=1e-6)


def test_negatives_are_all_images_of_other_classes_equally_often():
    labels = jnp.asarray([2, 0, 1, 1, 2, 0, 1, 2, 2, -1])  # the last was not seen yet
    index = jnp.arange(9)
    drawn = np.asarray(sample_other_classes(jax.random.key(0), index, labels, 20_000))
    np.testing.assert_array_equal(drawn[:, 0], index)
    for i, row in enumerate(drawn[:, 1:]):
        others = np.flatnonzero(np.asarray(labels) != labels[i])
        share = np.bincount(row, minlength=10)[others] / len(row)
        assert set(row) == set(others)
        np.testing.assert_allclose(share, 1 / len(others), atol=0.02)


def test_the_teacher_stays_and_labels_are_remembered():
    params, state = method().init(jax.random.key(0), toy.batch(views=1))
    after = step(method(), params, state).state
    jax.tree.map(np.testing.assert_array_equal, after.teacher, method().teacher.variables)
    assert (np.asarray(state.labels) == -1).all()
    np.testing.assert_array_equal(after.labels[INDEX], LABEL)
    np.testing.assert_array_equal(np.delete(np.asarray(after.labels), INDEX), -1)


def test_one_class_is_refused():
    with pytest.raises(UserError, match="at least two classes"):
        dataclasses.replace(method(), classes=1).check(toy.batch(views=1))
