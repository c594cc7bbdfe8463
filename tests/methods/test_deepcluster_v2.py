"""What DeepCluster-v2 promises beyond the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import toy

from ssl_jax.methods import METHODS

IMAGES = 20
METHOD = METHODS["deepcluster_v2"](toy.network(), images=IMAGES, every=4, prototypes=3, heads=3)
INDEX = jnp.arange(toy.BATCH) * 2


def seen(steps):
    """The state after some steps on one batch, without clustering."""
    params, state = METHOD.init(jax.random.key(0), toy.batch())
    for seed in range(steps):
        batch = toy.batch(seed) | {"index": INDEX}
        loss, state, _, _, embeddings = toy.loss(METHOD, params, state, batch, step=seed)
    return params, state, loss, embeddings


def test_nothing_is_learned_before_the_first_clustering_but_embeddings_are_remembered():
    _, state, loss, embeddings = seen(2)
    assert loss == 0
    z = np.asarray(embeddings)
    z = z / np.linalg.norm(z, axis=-1, keepdims=True)
    np.testing.assert_allclose(state.memory[INDEX], z, rtol=1e-4, atol=1e-6)
    assert not np.delete(np.asarray(state.memory), INDEX, axis=0).any()


def test_clusters_are_found_when_it_is_time_and_unseen_images_have_none():
    params, state, _, _ = seen(1)
    for step, due in [(0, False), (2, False), (3, True), (4, False), (7, True)]:
        _, after = METHOD.after_step(params, state, jax.random.key(step), jnp.int32(step))
        assert (int(after.assignment.max()) >= 0) == due
    _, after = METHOD.after_step(params, state, jax.random.key(3), jnp.int32(3))
    known = np.asarray(after.assignment) >= 0
    assert known[INDEX].all() and known.sum() == 3 * toy.BATCH
    np.testing.assert_allclose(np.linalg.norm(after.centroids, axis=-1), 1.0, rtol=1e-5)


def test_heads_cluster_the_views_in_turn_and_each_image_lies_nearest_to_its_centroid():
    params, state, _, _ = seen(1)
    _, after = METHOD.after_step(params, state, jax.random.key(3), jnp.int32(3))
    for head in range(3):
        points = np.asarray(state.memory[INDEX, head % 2])
        nearest = (points @ np.asarray(after.centroids[head]).T).argmax(1)
        np.testing.assert_array_equal(after.assignment[INDEX, head], nearest)


def test_the_loss_is_the_cross_entropy_of_every_crop_and_head():
    params, state, _, _ = seen(1)
    _, state = METHOD.after_step(params, state, jax.random.key(3), jnp.int32(3))
    batch = toy.batch(5) | {"index": INDEX}
    loss, _, _, _, embeddings = toy.loss(METHOD, params, state, batch, step=4)
    z = np.asarray(embeddings, np.float64)
    z /= np.linalg.norm(z, axis=-1, keepdims=True)
    terms = []
    for b, v, h in np.ndindex(toy.BATCH, 2, 3):
        logits = np.asarray(state.centroids[h]) @ z[b, v] / METHOD.temperature
        terms.append(np.log(np.exp(logits).sum()) - logits[state.assignment[INDEX[b], h]])
    np.testing.assert_allclose(loss, np.mean(terms), rtol=1e-4)
