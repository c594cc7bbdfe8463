"""What InstDisc promises beyond the contract."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import toy

from ssl_jax.losses import instance_softmax
from ssl_jax.methods import METHODS
from ssl_jax.numeric import l2_normalize

IMAGES = 20
METHOD = METHODS["instdisc"](toy.network(), images=IMAGES, temperature=0.5, negatives=0)
INDEX = np.arange(toy.BATCH, dtype=np.int32) * 2


def step(method, params, state, seed=1, key=0):
    return toy.loss(method, params, state, toy.batch(seed, views=1) | {"index": jnp.asarray(INDEX)}, key)


def test_only_the_rows_of_the_batch_move_half_way_and_stay_on_the_sphere():
    params, state = METHOD.init(jax.random.key(0), toy.batch(views=1))
    _, after, _, _, embeddings = step(METHOD, params, state)
    z = np.asarray(l2_normalize(embeddings[:, 0]))
    moved = (np.asarray(state.bank[INDEX]) + z) / 2
    np.testing.assert_allclose(after.bank[INDEX], moved / np.linalg.norm(moved, axis=1, keepdims=True), rtol=1e-4)
    rest = np.delete(np.arange(len(state.bank)), INDEX)
    np.testing.assert_array_equal(after.bank[rest], state.bank[rest])


def test_equal_rows_give_the_log_of_the_number_of_images_and_rows_to_spare_do_not_count():
    bank = jnp.ones((32, 4)).at[IMAGES:].set(100.0)
    loss = instance_softmax(jnp.ones((3, 4)), bank, jnp.arange(3), 0.5, IMAGES)
    np.testing.assert_allclose(loss, np.log(IMAGES), rtol=1e-6)


def test_z_is_that_of_the_first_batch():
    method = dataclasses.replace(METHOD, negatives=7)
    params, state = method.init(jax.random.key(0), toy.batch(views=1))
    assert state.normalizer == 0
    seen = []
    for seed in range(3):
        state = step(method, params, state, seed, seed).state
        seen.append(float(state.normalizer))
    assert seen[0] > 0 and seen == [seen[0]] * 3


def test_the_softmax_over_drawn_images_counts_own_and_drawn_alike():
    method = dataclasses.replace(METHOD, negatives=7, softmax=True)
    params, state = method.init(jax.random.key(0), toy.batch(views=1))
    loss, after, *_ = step(method, params, state._replace(bank=jnp.ones_like(state.bank)), 1, 1)
    np.testing.assert_allclose(loss, np.log(1 + 7), rtol=1e-6)
    assert after.normalizer == 0


def test_the_proximal_term_is_the_distance_to_the_own_row():
    near = dataclasses.replace(METHOD, proximal=3.0)
    params, state = METHOD.init(jax.random.key(0), toy.batch(views=1))
    without, with_it = step(METHOD, params, state), step(near, params, state)
    z = np.asarray(l2_normalize(without.embeddings[:, 0]))
    distance = np.sum((z - np.asarray(state.bank[INDEX])) ** 2, axis=1)
    np.testing.assert_allclose(with_it.loss - without.loss, 3 * distance.mean(), rtol=1e-3)
