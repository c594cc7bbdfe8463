"""CRD: match a student's embedding of an image to the teacher's, against images of other classes."""

import dataclasses
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError
from ssl_jax.fields import positive, share
from ssl_jax.losses import cross_entropy, nce_with_first_normalizer, sampled_scores
from ssl_jax.memory import padded, random_bank, sample_other_classes, update_bank
from ssl_jax.method import ClassCount, ImageCount, Method, PyTree, Result, Variables, apply, initialize
from ssl_jax.methods.labelled import linear, through
from ssl_jax.numeric import l2_normalize
from ssl_jax.teacher import Teacher


@dataclasses.dataclass(frozen=True)
class CRD(Method):
    """Contrastive Representation Distillation (Tian et al. 2019, arXiv:1910.10699), section 3.1.

    The student's embedding is its projection, the teacher's is a linear map of its features, trained with the student.
    Until an image has been seen, its class is unknown and its rows are random; it then counts as an image of another
    class. The authors' alpha, the distillation of the teacher's classifier, is 0 by default and left out: a teacher
    here is an encoder without a classifier.
    """

    images: ImageCount
    classes: ClassCount
    teacher: Teacher
    temperature: Annotated[float, positive] = 0.07  # tau
    negatives: int = 16384  # drawn per image, from other classes
    momentum: Annotated[float, share] = 0.5  # weight of the old row in the new one
    supervised: float = 1.0  # gamma, weight of the cross-entropy of a linear classifier on the student's features
    weight: float = 0.8  # beta, weight of the contrast with the teacher
    mixes_sizes = False
    needs_labels = True
    memories = ("student_bank", "teacher_bank", "labels")

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics of the student
        teacher: Variables  # the frozen encoder
        student_bank: jax.Array  # [N, D], a row per image
        teacher_bank: jax.Array  # [N, D]
        normalizers: jax.Array  # [2], Z of student and teacher, from the first batch; 0 before
        labels: jax.Array  # int32 [N], the class of each image, -1: not seen yet

    def check(self, batch):
        super().check(batch)
        if self.classes < 2:
            raise UserError("CRD needs images of at least two classes, but they are of one; set another data.source")

    def init(self, key, batch):
        keys = jax.random.split(key, 5)
        variables, shapes = initialize(self.network, keys[0], batch["views"])
        dimension, rows = shapes.projection.shape[-1], padded(self.images)
        teacher = jax.tree.map(jnp.asarray, self.teacher.variables)
        features = jax.eval_shape(self.teacher.features, teacher, batch["views"].large[0][:, 0])
        params = {
            "network": variables.params,
            "teacher_embedding": linear(keys[1], features.shape[-1], dimension),
            "classifier": linear(keys[2], shapes.features.shape[-1], self.classes),
        }
        student_bank, teacher_bank = (random_bank(own, rows, dimension) for own in keys[3:])
        unknown = jnp.full(rows, -1, jnp.int32)
        return params, self.State(variables.stats, teacher, student_bank, teacher_bank, jnp.zeros(2), unknown)

    def loss(self, params, state, batch, key, step):
        views, index, label = batch["views"], batch["index"], batch["label"]
        outputs, stats = apply(self.network, self.variables(params, state), views, key)
        students = l2_normalize(outputs.projection)
        of_image = self.teacher.features(state.teacher, views.large[0][:, 0])
        teacher = l2_normalize(through(params["teacher_embedding"], of_image))
        labels = state.labels.at[index].set(label)
        candidates = sample_other_classes(key, index, labels[: self.images], self.negatives)

        def contrast(embedding, bank, normalizer):
            scores = sampled_scores(embedding, bank, candidates, self.temperature)
            return nce_with_first_normalizer(scores, normalizer, self.images)

        of_students, student_z = [], state.normalizers[0]
        for view in range(students.shape[1]):
            loss, student_z = contrast(students[:, view], state.teacher_bank, student_z)
            of_students.append(loss)
        of_teacher, teacher_z = contrast(teacher, state.student_bank, state.normalizers[1])
        logits = through(params["classifier"], outputs.features[:, 0])
        supervised = cross_entropy(logits, label)
        contrastive = sum(of_students) / len(of_students) + of_teacher
        loss = self.supervised * supervised + self.weight * contrastive
        state = self.State(
            stats,
            state.teacher,
            update_bank(state.student_bank, index, students[:, 0], self.momentum),
            update_bank(state.teacher_bank, index, teacher, self.momentum),
            jnp.stack([student_z, teacher_z]),
            labels,
        )
        metrics = {"cross_entropy": supervised}
        return Result(loss, state, metrics, outputs.features[:, 0], outputs.projection)
