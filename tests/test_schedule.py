"""Durations and schedules: their values at known steps, under jit, and errors for wrong specs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax import schedule
from ssl_jax.errors import UserError


@pytest.mark.parametrize(
    "value, steps",
    [
        (0, 0),
        (313, 313),
        ("313", 313),
        ("1 step", 1),
        ("313 steps", 313),
        ("10 epochs", 70),
        ("0.5 epochs", 3),
        ("0.29 epochs", 2),
        ("40000 examples", 1250),
        ("63 examples", 1),
    ],
)
def test_duration(value, steps):
    assert schedule.duration(value, steps_per_epoch=7, batch_size=32) == steps


def test_duration_is_exact_where_floats_are_not():
    assert schedule.duration("0.29 epochs", steps_per_epoch=100, batch_size=1) == 29  # 0.29 * 100 < 29 in floats


@pytest.mark.parametrize(
    "value",
    [
        "ten epochs",
        "10 hours",
        "10 epochs 3 steps",
        "",
        "-1 steps",
        -1,
        True,
        None,
        "steps",
        0.5,
        "0.5",
        "0.5 steps",
        "1.5 examples",
    ],
)
def test_bad_duration(value):
    with pytest.raises(UserError, match="is not a duration"):
        schedule.duration(value, 7, 32)


def test_cosine():
    rate = schedule.cosine(2.0, 1.0, 4, begin=10)
    expected = [2, 2, 1.5 + np.sqrt(2) / 4, 1.5, 1.5 - np.sqrt(2) / 4, 1, 1]
    np.testing.assert_allclose(rate(np.array([0, 10, 11, 12, 13, 14, 99])), expected, rtol=1e-6)


def test_cosine_is_the_decay_of_byol():
    step, steps, base = np.arange(100), 80, 0.996
    expected = 1 - (1 - base) * (np.cos(np.pi * np.minimum(step, steps) / steps) + 1) / 2
    np.testing.assert_allclose(schedule.cosine(base, 1.0, steps)(step), expected, rtol=1e-6)


def test_linear():
    np.testing.assert_allclose(schedule.linear(1.0, 3.0, 4, begin=2)(np.arange(8)), [1, 1, 1, 1.5, 2, 2.5, 3, 3])


def test_milestones():
    np.testing.assert_allclose(
        schedule.milestones(2.0, [2, 4], 0.1)(np.arange(6)), [2, 2, 0.2, 0.2, 0.02, 0.02], rtol=1e-6
    )
    assert schedule.milestones(2.0, [], 0.1)(7) == 2


def test_warmup_meets_the_schedule_where_it_ends():
    rate = schedule.warmup(schedule.cosine(1.0, 0.0, 4, begin=4), 4, start=0.2)
    np.testing.assert_allclose(rate(np.arange(6)), [0.2, 0.4, 0.6, 0.8, 1.0, (2 + np.sqrt(2)) / 4], rtol=1e-6)
    assert schedule.warmup(schedule.constant(3.0), 0)(0) == 3


def test_per_epoch_moves_with_the_first_step_of_an_epoch():
    rate = schedule.per_epoch(schedule.linear(0.0, 12.0, 12), 4)
    np.testing.assert_allclose(rate(np.arange(13)), [0] * 4 + [4] * 4 + [8] * 4 + [12], rtol=1e-6)


@pytest.mark.parametrize(
    "rate",
    [
        schedule.constant(0.3),
        schedule.cosine(0.3, 0.1, 7, begin=2),
        schedule.milestones(0.3, [4], 0.1),
        schedule.per_epoch(schedule.warmup(schedule.linear(1.0, 0.0, 9), 3), 2),
    ],
)
def test_a_traced_step_gives_what_a_number_gives(rate):
    for step in range(10):
        traced = jax.jit(rate)(jnp.int32(step))
        assert traced.shape == () and traced.dtype == jnp.float32
        np.testing.assert_allclose(traced, rate(step), rtol=1e-6)


def test_build():
    def to_steps(value):
        return schedule.duration(value, 10, 32)

    assert schedule.build(0.99, 100, to_steps)(5) == np.float32(0.99)
    rising = schedule.build({"schedule": "cosine", "start": 0.996, "end": 1.0}, 100, to_steps)
    np.testing.assert_allclose(rising(np.array([0, 50, 100])), [0.996, 0.998, 1.0], rtol=1e-6)
    short = schedule.build({"schedule": "linear", "start": 0.04, "end": 0.07, "duration": "3 epochs"}, 100, to_steps)
    np.testing.assert_allclose(short(np.array([0, 10, 30, 90])), [0.04, 0.05, 0.07, 0.07], rtol=1e-6)


@pytest.mark.parametrize(
    "spec, message",
    [
        ({"schedule": "cosin", "start": 0, "end": 1}, "did you mean 'cosine'"),
        ({"schedule": "cosine", "start": 0}, "has the keys"),
        ({"schedule": "cosine", "start": 0, "end": 1, "warmup": 3}, "has the keys"),
        ({"schedule": "cosine", "start": 0, "end": 1, "duration": "soon"}, "is not a duration"),
    ],
)
def test_bad_spec(spec, message):
    with pytest.raises(UserError, match=message):
        schedule.build(spec, 100, lambda value: schedule.duration(value, 10, 32))
