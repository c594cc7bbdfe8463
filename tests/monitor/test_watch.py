"""The watch stops diverged runs, warns once of each sign of collapse, and is silent on healthy runs."""

import math
import pathlib

import pytest

from ssl_jax.errors import UserError
from ssl_jax.monitor.watch import LOOKS, Watch, check_finite

HEALTHY = {
    "loss": 5.0,
    "uniform_loss": math.log(512),
    "projection_std": 0.9,
    "projection_crowding": 0.3,
    "rank": 40.0,
    "target_entropy": 0.6,
}
HEALTHY |= {"marginal_entropy": 0.97}
SICK = [
    ({"projection_crowding": 0.99}, "projection_crowding is 0.990"),
    ({"rank": 1.1}, "effective rank of 1.1"),
    ({"target_entropy": 0.9999}, "uniform targets, target_entropy is 1.000"),
    ({"marginal_entropy": 0.02}, "one-dimensional targets, marginal_entropy is 0.020"),
    ({"loss": 6.2383}, "stuck at 6.238"),
]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_stops_with_the_step_and_what_to_try(bad):
    with pytest.raises(UserError, match=r"step 17: grad_norm not finite; .*float32 .*replay --workdir='a b' names"):
        check_finite(17, {"loss": 1.0, "grad_norm": bad}, pathlib.Path("a b"))
    check_finite(17, {"loss": 1.0}, pathlib.Path("a b"))


def looks(metrics, steps=range(0, 1000, 10), total=1000):
    watch = Watch(total)
    return [(step, warning) for step in steps for warning in watch.look(step, metrics)]


def test_a_healthy_run_is_left_in_peace():
    assert looks(HEALTHY) == []


@pytest.mark.parametrize(("symptom", "words"), SICK)
def test_each_sign_warns_once_after_the_grace_period(symptom, words):
    ((step, warning),) = looks(HEALTHY | symptom)
    assert step == 100 + 10 * (LOOKS - 1)
    assert words in warning


def test_causes_are_told_apart():
    assert len(looks(HEALTHY | {name: value for symptom, _ in SICK for name, value in symptom.items()})) == len(SICK)


def test_a_dip_is_not_a_collapse():
    watch = Watch(0)
    for step in range(100):
        dip = step % LOOKS != 0
        assert watch.look(step, HEALTHY | {"projection_crowding": 0.99 if dip else 0.3}) == []


def test_figures_that_are_measured_rarely_or_never():
    watch = Watch(0)
    warnings = []
    for step in range(10 * LOOKS):
        warnings += watch.look(step, {"loss": 1.0} | ({"rank": 1.0} if step % 10 == 0 else {}))
    assert len(warnings) == 1 and "rank" in warnings[0]
