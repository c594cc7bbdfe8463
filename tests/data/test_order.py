"""Which images form a batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.data import order
from ssl_jax.data.order import Balanced, Shuffled
from ssl_jax.errors import UserError


def test_every_epoch_shows_every_example_once_in_a_new_order():
    epochs = [np.concatenate([Shuffled(7, 12, 4)(step) for step in range(3 * e, 3 * e + 3)]) for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(12)) and epoch.dtype == np.int32
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_incomplete_last_batch_is_dropped():
    steps = [Shuffled(0, 10, 4)(step) for step in range(4)]
    assert all(len(set(index)) == 4 for index in steps)
    assert not set(steps[0]) & set(steps[1])
    assert not set(steps[2]) & set(steps[3])


def test_indices_depend_on_the_seed_and_on_nothing_else():
    first = [Shuffled(3, 100, 10)(step) for step in range(25)]
    order.permutation.cache_clear()
    for step in (24, 3, 11):
        np.testing.assert_array_equal(Shuffled(3, 100, 10)(step), first[step])
    assert not np.array_equal(Shuffled(4, 100, 10)(0), first[0])


def test_the_order_never_changes_between_versions():
    assert Shuffled(0, 10, 10)(0).tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
    assert Shuffled(0, 10, 10)(1).tolist() == [5, 3, 7, 8, 2, 4, 1, 0, 6, 9]


def test_all_positions_are_equally_likely():
    """Where each of 8 examples lands over 4000 epochs: chi-square with 49 degrees of freedom, 99.99 % below 98."""
    where = np.stack([Shuffled(0, 8, 8)(epoch) for epoch in range(4000)])
    counts = np.stack([np.bincount(column, minlength=8) for column in where.T])
    assert ((counts - 500) ** 2 / 500).sum() < 98


def test_fewer_images_than_a_batch():
    with pytest.raises(UserError, match="has 3 images, fewer than batch_size 4; lower batch_size"):
        Shuffled(0, 3, 4)


LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 3, -1, -1, -1])


def test_balanced_batches_hold_so_many_classes_with_so_many_images_each():
    draw = Balanced(0, LABELS, 6, 3)
    for step in range(20):
        index = draw(step)
        assert index.dtype == np.int32 and len(set(index.tolist())) == 6
        labels = LABELS[index].reshape(2, 3)
        assert (labels == labels[:, :1]).all() and labels[0, 0] != labels[1, 0] and labels.max() < 3


def test_balanced_batches_depend_on_seed_and_step_alone():
    first = [Balanced(1, LABELS, 6, 3)(step).tolist() for step in range(10)]
    again = Balanced(1, LABELS, 6, 3)
    assert [again(step).tolist() for step in reversed(range(10))] == first[::-1]
    assert [Balanced(2, LABELS, 6, 3)(step).tolist() for step in range(10)] != first
    assert len({tuple(index) for index in first}) > 5


def test_balanced_batches_draw_classes_and_images_evenly():
    """Over 3000 steps each of 3 classes comes 2000 times, each of 3 images of class 1 equally often."""
    draw = Balanced(0, LABELS, 4, 2)
    counts = np.bincount(np.concatenate([draw(step) for step in range(3000)]), minlength=14)
    np.testing.assert_allclose([counts[c == LABELS].sum() for c in range(3)], 4000, rtol=0.05)
    np.testing.assert_allclose(counts[LABELS == 1], 4000 / 3, rtol=0.08)


@pytest.mark.parametrize(
    "batch_size, each, message",
    [
        (6, 4, "does not divide batch_size 6"),
        (12, 3, "takes 3 images of 4 classes, but 3 have as many; raise data.images_per_class or lower batch_size"),
        (9, 9, "takes 9 images of 1 class, but 0 have as many; lower data.images_per_class"),
    ],
)
def test_batches_that_cannot_be_balanced(batch_size, each, message):
    with pytest.raises(UserError, match=message):
        Balanced(0, LABELS, batch_size, each)


def test_the_clock_of_a_shuffled_order_is_the_epoch_and_that_of_a_balanced_one_the_step():
    shuffled, balanced = Shuffled(0, 10, 4), Balanced(0, LABELS, 6, 3)
    steps = list(range(7))
    assert [shuffled.visit(step) for step in steps] == [0, 0, 1, 1, 2, 2, 3]
    assert [balanced.visit(step) for step in steps] == steps
    for draw in (shuffled, balanced):
        traced = [jax.jit(draw.visit)(jnp.int32(step)) for step in steps]
        assert [int(visit) for visit in traced] == [draw.visit(step) for step in steps]
        assert all(visit.dtype == jnp.int32 for visit in traced)


@pytest.mark.parametrize("draw", [Shuffled(0, 14, 6), Balanced(0, LABELS, 6, 3)], ids=["shuffled", "balanced"])
def test_no_image_comes_twice_in_one_visit(draw):
    seen = [(draw.visit(step), i) for step in range(20) for i in draw(step).tolist()]
    assert len(set(seen)) == len(seen)
