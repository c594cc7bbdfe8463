"""What CPC promises beyond the contract."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ssl_jax.augment import Grid, Views
from ssl_jax.errors import UserError
from ssl_jax.methods import METHODS

SIDE = 4
GRID = Grid(SIDE, toy.SIZE, toy.SIZE // 2)
METHOD = METHODS["cpc"](toy.network(), GRID, ignore=1, steps=3, directions=2, dimension=5, scale=0.7)
BATCH = {"views": Views(toy.batch(1, views=SIDE**2)["views"], ["patch"])}


def test_the_loss_is_a_cross_entropy_over_all_patches_of_the_batch():
    params, state = METHOD.init(jax.random.key(0), BATCH)
    loss, _, _, features, _ = toy.loss(METHOD, params, state, BATCH)
    images = BATCH["views"][0].reshape(-1, toy.SIZE, toy.SIZE, 3)
    latents = (
        toy.network().apply({"params": params["network"]}, images, method="encode").reshape(toy.BATCH, SIDE, SIDE, -1)
    )
    targets, predictions = METHOD.prediction.apply({"params": params["prediction"]}, latents)
    terms = {2: [], 3: []}
    for turn in range(2):
        grid = np.rot90(np.asarray(targets, np.float64), turn, (1, 2))
        for k, below in enumerate((2, 3)):
            for image, row, column in np.ndindex(toy.BATCH, SIDE - below, SIDE):
                guess = 0.7 * np.asarray(predictions[turn, image, row, column, k], np.float64)
                own = grid[image, row + below, column] @ guess
                terms[below].append(np.log(np.exp(grid.reshape(-1, 5) @ guess).sum()) - own)
    np.testing.assert_allclose(loss, (np.mean(terms[2]) + np.mean(terms[3])) / 2, rtol=1e-5)
    np.testing.assert_allclose(features, latents.mean((1, 2)), rtol=1e-4, atol=1e-5)


def test_a_scale_of_zero_tells_nothing_apart():
    method = dataclasses.replace(METHOD, scale=0.0)
    params, state = method.init(jax.random.key(0), BATCH)
    loss, _, metrics, *_ = toy.loss(method, params, state, BATCH)
    np.testing.assert_allclose(loss, np.log(toy.BATCH * SIDE**2), rtol=1e-6)
    np.testing.assert_allclose(loss, metrics["uniform_loss"], rtol=1e-6)


def test_directions_are_the_same_task_on_a_turned_grid():
    method = dataclasses.replace(METHOD, directions=4)
    params, state = method.init(jax.random.key(0), BATCH)
    (patches,) = BATCH["views"]
    places = np.rot90(np.arange(SIDE**2).reshape(SIDE, SIDE)).reshape(-1)
    turned = {"views": Views([patches[:, places]], ["patch"])}
    prediction = dict(params["prediction"])
    for turn in range(4):
        prediction[f"predictor{turn}"] = params["prediction"][f"predictor{(turn + 1) % 4}"]
    loss = toy.loss(method, params, state, BATCH).loss
    again = toy.loss(method, params | {"prediction": prediction}, state, turned).loss
    np.testing.assert_allclose(again, loss, rtol=1e-5)
    other = toy.loss(method, params, state, turned).loss
    assert abs(float(other) - float(loss)) > 1e-4  # each direction has predictors of its own


def test_features_are_the_mean_over_overlapping_patches():
    params, state = METHOD.init(jax.random.key(0), BATCH)
    images = jax.random.normal(jax.random.key(2), (3, GRID.size, GRID.size, 3))
    steps = range(0, GRID.size - toy.SIZE + 1, toy.SIZE // 2)
    patches = [images[:, r : r + toy.SIZE, c : c + toy.SIZE] for r in steps for c in steps]
    each = [toy.network().apply({"params": params["network"]}, patch, method="encode") for patch in patches]
    assert len(each) == SIDE**2
    features = METHOD.features(params, state, images)
    np.testing.assert_allclose(features, sum(each) / len(each), rtol=1e-4, atol=1e-5)
    trained = toy.loss(METHOD, params, state, {"views": Views([jnp.stack(patches, axis=1)], ["patch"])}).features
    np.testing.assert_allclose(trained, features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": None}, "set augment.recipe=cpc"),
        ({"steps": 4}, "4 rows cannot predict 2 to 4 rows ahead; set 0 <= method.ignore < method.steps < 4"),
        ({"ignore": 3}, "set 0 <= method.ignore"),
        ({"directions": 5}, "method.directions is 5; set it to 1, 2, 3 or 4"),
    ],
)
def test_mistakes_are_explained(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(METHOD, **changes).check(BATCH)
