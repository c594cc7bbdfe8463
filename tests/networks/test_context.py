"""What the network of contrastive predictive coding can and cannot see."""

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.networks import Context, PatchPrediction

ROWS, COLUMNS, CHANNELS = 4, 5, 3


def test_the_context_of_a_row_depends_on_rows_up_to_it_only():
    model = Context(blocks=3, hidden=8)
    latents = jax.random.normal(jax.random.key(0), (1, ROWS, COLUMNS, CHANNELS))
    params = model.init(jax.random.key(1), latents)
    context, jacobian = model.apply(params, latents), jax.jacobian(lambda x: model.apply(params, x))(latents)
    assert context.shape == latents.shape
    sees = np.abs(np.asarray(jacobian)).sum((0, 2, 3, 4, 6, 7)) > 0  # [row of the context, row of the latents]
    np.testing.assert_array_equal(sees, np.tri(ROWS, dtype=bool))


def test_a_direction_is_the_first_one_on_a_turned_grid():
    model = PatchPrediction(directions=4, offsets=2, dimension=6, context=Context(blocks=1, hidden=8))
    latents = jax.random.normal(jax.random.key(0), (2, ROWS, ROWS, CHANNELS))
    params = model.init(jax.random.key(1), latents)["params"]
    targets, predictions = model.apply({"params": params}, latents)
    assert targets.shape == (2, ROWS, ROWS, 6) and predictions.shape == (4, 2, ROWS, ROWS, 2, 6)
    for turn in range(4):
        turned = jnp.rot90(latents, turn, (1, 2))
        same = params | {"predictor0": params[f"predictor{turn}"]}
        turned_targets, turned_predictions = model.apply({"params": same}, turned)
        np.testing.assert_allclose(turned_predictions[0], predictions[turn], atol=1e-5)
        np.testing.assert_allclose(turned_targets, jnp.rot90(targets, turn, (1, 2)), atol=1e-5)
