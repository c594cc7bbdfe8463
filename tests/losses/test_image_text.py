"""The losses of CLIP and SigLIP against their papers' formulas and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax import losses

IMAGE, TEXT = jax.random.normal(jax.random.key(0), (2, 6, 4))


def test_softmax_is_the_mean_cross_entropy_of_rows_and_columns():
    logits = 3.0 * np.asarray(IMAGE, np.float64) @ np.asarray(TEXT, np.float64).T
    rows, columns = (np.diag(np.log(np.exp(x) / np.exp(x).sum(1, keepdims=True))) for x in (logits, logits.T))
    np.testing.assert_allclose(losses.image_text_softmax(IMAGE, TEXT, 3.0), -(rows + columns).mean() / 2, rtol=1e-5)


def test_sigmoid_is_the_sum_over_all_pairs():
    image, text = np.asarray(IMAGE, np.float64), np.asarray(TEXT, np.float64)
    total = 0.0
    for i in range(6):
        for j in range(6):
            z = 1 if i == j else -1
            total += np.log(1 / (1 + np.exp(z * (-3.0 * image[i] @ text[j] + 2.0))))
    np.testing.assert_allclose(losses.image_text_sigmoid(IMAGE, TEXT, 3.0, -2.0), -total / 6, rtol=1e-5)


def test_equal_similarities():
    same = jnp.ones((8, 3))
    np.testing.assert_allclose(losses.image_text_softmax(same, same, 14.3), np.log(8), rtol=1e-6)
    np.testing.assert_allclose(losses.image_text_sigmoid(same, same, 10.0, -30.0), 8 * np.log(2), rtol=1e-6)


def test_images_and_texts_may_change_places():
    for loss in (losses.image_text_softmax, lambda a, b, s: losses.image_text_sigmoid(a, b, s, -1.0)):
        np.testing.assert_allclose(loss(IMAGE, TEXT, 2.0), loss(TEXT, IMAGE, 2.0), rtol=1e-6)
