"""ReSSL's relational loss against its equations and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.losses import entropy, relational


def unit(seed, *shape):
    x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


STUDENT, TEACHER, OTHERS = unit(0, 5, 8), unit(1, 5, 8), unit(2, 12, 8)


def test_equations_3_to_5():
    terms = []
    for student, teacher in zip(np.float64(STUDENT), np.float64(TEACHER), strict=True):
        p, q = np.exp(OTHERS @ teacher / 0.04), np.exp(OTHERS @ student / 0.1)
        terms.append(-np.sum(p / p.sum() * np.log(q / q.sum())))
    ours = relational(jnp.asarray(STUDENT), jnp.asarray(TEACHER), jnp.asarray(OTHERS))
    np.testing.assert_allclose(ours, np.mean(terms), rtol=1e-5)


def test_a_student_equally_similar_to_all_pays_log_k():
    loss = relational(jnp.zeros((5, 8)), jnp.asarray(TEACHER), jnp.asarray(OTHERS))
    np.testing.assert_allclose(loss, np.log(12), rtol=1e-6)


def test_the_least_is_the_entropy_of_the_teacher():
    x, others = jnp.asarray(TEACHER), jnp.asarray(OTHERS)
    least = jnp.mean(entropy(jax.nn.softmax(x @ others.T / 0.2)))
    np.testing.assert_allclose(relational(x, x, others, 0.2, 0.2), least, rtol=1e-5)
    assert relational(jnp.asarray(STUDENT), x, others, 0.2, 0.2) > least + 0.1


def test_gradients_reach_the_student_alone():
    grads = jax.grad(relational, argnums=(0, 1, 2))(*map(jnp.asarray, (STUDENT, TEACHER, OTHERS)))
    assert jnp.any(grads[0] != 0) and not jnp.any(grads[1] != 0) and not jnp.any(grads[2] != 0)
