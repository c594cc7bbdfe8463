"""What the supervised baseline promises beyond the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import toy

from ssl_jax.methods import METHODS

CLASSES = 3
METHOD = METHODS["supervised"](toy.network().clone(projector=None), classes=CLASSES, smoothing=0.1)
BATCH = toy.batch() | {"label": jnp.arange(toy.BATCH) % CLASSES}


def test_every_view_is_classified_and_the_target_is_smoothed():
    params, state = METHOD.init(jax.random.key(0), BATCH)
    result = toy.loss(METHOD, params, state, BATCH)
    features = np.asarray(toy.outputs(METHOD, params, state, BATCH).features, np.float64)
    logits = features @ np.asarray(params["classifier"]["kernel"]) + np.asarray(params["classifier"]["bias"])
    log_probability = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    target = 0.9 * np.eye(CLASSES)[np.asarray(BATCH["label"])] + 0.1 / CLASSES
    np.testing.assert_allclose(result.loss, -np.mean((target[:, None] * log_probability).sum(-1)), rtol=1e-5)
    right = logits.argmax(-1) == np.asarray(BATCH["label"])[:, None]
    np.testing.assert_allclose(result.metrics["train_top1"], 100 * right.mean(), rtol=1e-5)


def test_the_loss_of_equal_logits_is_that_of_a_uniform_guess():
    params, state = METHOD.init(jax.random.key(0), BATCH)
    result = toy.loss(METHOD, params | {"classifier": jax.tree.map(jnp.zeros_like, params["classifier"])}, state, BATCH)
    np.testing.assert_allclose(result.loss, np.log(CLASSES), rtol=1e-6)
    np.testing.assert_allclose(result.metrics["uniform_loss"], result.loss, rtol=1e-6)
