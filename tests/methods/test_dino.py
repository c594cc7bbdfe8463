"""DINO: its centre, its teacher, and its two collapses, which the watch tells apart."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ssl_jax.augment import Views
from ssl_jax.method import Variables, apply
from ssl_jax.methods import METHODS
from ssl_jax.monitor.watch import LOOKS, Watch
from ssl_jax.networks import Prototypes

METHOD = METHODS["dino"](
    toy.network("prototypes").clone(predictor=Prototypes(toy.PROTOTYPES, "unit")),
    decay=lambda step: 0.9,
    teacher_temperature=lambda step: 0.04,
)


def started(method=METHOD):
    """A state in the middle of training: the teacher lags behind, the centre is not 0."""
    params, state = method.init(jax.random.key(0), toy.batch())
    target = state.target._replace(params=jax.tree.map(lambda x: 0.8 * x + 0.1, state.target.params))
    center = jax.random.normal(jax.random.key(1), (toy.PROTOTYPES,)) / 10
    return params, state._replace(target=target, center=center)


def test_the_centre_follows_the_scores_of_the_teacher_after_the_loss():
    params, state = started()
    batch = toy.batch(2, small=2)
    result = toy.loss(METHOD, params, state, batch)
    scores = apply(METHOD.network, state.target, batch["views"].large)[0].prediction
    expected = 0.9 * np.asarray(state.center) + 0.1 * np.asarray(scores).mean((0, 1))
    np.testing.assert_allclose(result.state.center, expected, rtol=1e-4, atol=1e-6)
    moved = toy.loss(METHOD, params, state._replace(center=result.state.center), batch)
    assert abs(moved.loss - result.loss) > 1e-3  # another centre gives another loss: this step used the old one
    shifted = toy.loss(METHOD, params, state._replace(center=state.center + 3.0), batch)
    np.testing.assert_allclose(shifted.loss, result.loss, rtol=1e-4)  # but not if it moves along (1, ..., 1)


def test_the_teacher_gets_no_gradient_follows_the_student_and_is_what_is_evaluated():
    params, state = started()

    def value(target):
        return toy.loss(METHOD, params, state._replace(target=Variables(target, {})), toy.batch(2)).loss

    gradient = jax.grad(value)(state.target.params)
    jax.tree.map(lambda x: np.testing.assert_array_equal(x, 0), gradient)
    _, after = METHOD.after_step(params, state, None, jnp.int32(0))
    expected = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, state.target.params, params["network"])
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), after.target.params, expected)
    images = toy.batch(3)["views"][0][:, 0]
    features = apply(METHOD.network, state.target, toy.batch(3)["views"])[0].features[:, 0]
    np.testing.assert_allclose(METHOD.features(params, state, images), features, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(toy.loss(METHOD, params, state, toy.batch(3)).features, features, rtol=1e-4, atol=1e-5)


def alike(step):
    """Two views of new images: what they share, and a little noise."""
    shared, noise = jnp.split(toy.batch(step)["views"][0], 2, axis=1)
    return {"views": Views([jnp.concatenate([shared + 0.2 * noise, shared - 0.2 * noise], axis=1)])}


def train(method, batch, steps):
    """Returns loss and metrics of each step of SGD on the batches `batch(step)`."""

    def step(carry, step):
        params, state = carry

        def objective(params):
            result = toy.loss(method, params, state, batch(step), step=step)
            return result.loss, result

        (_, result), gradient = jax.value_and_grad(objective, has_aux=True)(params)
        params = jax.tree.map(lambda x, g: x - 0.5 * g, params, gradient)
        return method.after_step(params, result.state, None, step), result.metrics | {"loss": result.loss}

    @jax.jit
    def run():
        return jax.lax.scan(step, method.init(jax.random.key(0), batch(0)), jnp.arange(steps))[1]

    return run()


def test_the_loss_falls_on_a_fixed_batch():
    loss = train(METHOD, lambda step: toy.batch(), 300)["loss"]
    assert loss[-1] < 0.1 < np.log(toy.PROTOTYPES) < loss[0]


COLLAPSES = {
    "nothing switched off": ({}, []),
    "no sharpening": ({"teacher_temperature": lambda step: 0.1}, ["uniform targets"]),
    "no centring": ({"center_decay": 1.0}, ["one-dimensional targets"]),
}


@pytest.mark.parametrize("case", COLLAPSES)
def test_the_watch_names_the_collapse_without_sharpening_or_centring(case):
    change, expected = COLLAPSES[case]
    metrics, watch = train(dataclasses.replace(METHOD, **change), alike, 1200), Watch(0)
    last = {name: float(metrics[name][-1]) for name in ("target_entropy", "marginal_entropy")}
    warnings = [warning for _ in range(LOOKS) for warning in watch.look(1, last)]
    assert [kind in warning for kind, warning in zip(expected, warnings, strict=True)] == [True] * len(expected), last
