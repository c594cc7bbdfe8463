"""Relational losses: a student should be as similar to other images as its teacher is."""

import jax
import jax.numpy as jnp

from ssl_jax.numeric import widen


def relational(
    student: jax.Array,
    teacher: jax.Array,
    others: jax.Array,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> jax.Array:
    """Cross-entropy between the teacher's and the student's distribution of similarities to other images.

    Args:
        student: [..., D], compared by dot product: of unit length in the paper.
        teacher: [..., D], of the same images in weakly augmented views; a constant.
        others: [K, D], a queue of past teacher embeddings; a constant.
        student_temperature: tau_s > 0.
        teacher_temperature: tau_t > 0, below tau_s so that the target is the sharper one.

    Returns:
        A scalar, the mean over rows; log K if the student is equally similar to all.

    Source: ReSSL (Zheng et al. 2021, arXiv:2107.09282), equations 3 to 5.
    """
    student, teacher, others = map(widen, (student, teacher, others))
    teacher, others = jax.lax.stop_gradient((teacher, others))
    target = jax.nn.softmax(teacher @ others.T / teacher_temperature)
    return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(student @ others.T / student_temperature), axis=-1))
