"""Distillation: a student learns from what a fine-tuned network says of images without labels."""

import dataclasses
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.evaluate import tuning
from ssl_jax.evaluate.finetune import Tuning, fine_tune, part
from ssl_jax.evaluate.result import Result
from ssl_jax.evaluate.subject import Subject
from ssl_jax.fields import fraction, one_of, positive
from ssl_jax.losses.distillation import soft_cross_entropy
from ssl_jax.method import Method, PyTree, Variables, apply, encode, initialize
from ssl_jax.method import Result as Loss


@dataclasses.dataclass(frozen=True)
class Distil(Tuning):
    """The last two of SimCLR v2's three stages: fine-tuning on a few labels, and self-distillation on all images.

    The teacher is the network fine-tuned on a share of the labels. The student, which starts from the same network
    before fine-tuning, sees all training images without labels.

    Source: Chen et al. 2020 (arXiv:2006.10029), section 2; pseudo-labels: Xie et al. 2019 (arXiv:1911.04252).
    """

    share: Annotated[float, fraction] = 0.1  # of the labels, for the teacher
    targets: Annotated[str, one_of(("soft", "pseudo"))] = "soft"  # the teacher's probabilities, or its best guess
    temperature: Annotated[float, positive] = 1.0  # of both

    def __call__(self, subject: Subject) -> Result:
        bank, recipe = subject.samples.bank.images, self.filled
        teacher = fine_tune(subject, part(bank, self.share, self.seed), recipe, self.seed)
        network = tuning.classifier(subject.run.method.network, len(subject.classes), recipe.layers)
        method = Distilled(network, self.temperature, self.targets == "pseudo")
        answers = Variables(teacher.weights.params["network"], teacher.weights.state.stats)
        result = tuning.accuracy(tuning.train(subject, bank, method, recipe, self.seed, answers))
        top1 = tuning.accuracy(teacher).numbers["top1"]
        return result._replace(numbers=result.numbers | {"teacher_top1": top1})


@dataclasses.dataclass(frozen=True)
class Distilled(Method):
    """Cross-entropy with the answers of a fixed teacher, times the square of the temperature."""

    temperature: float = 1.0
    pseudo: bool = False  # whether the teacher's best guess is the target

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics
        teacher: Variables  # does not change

    def init(self, key, batch):
        variables, _ = initialize(self.network, key, batch["views"])
        teacher = jax.tree.map(jnp.zeros_like, variables)
        return {"network": variables.params}, self.State(variables.stats, teacher)

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        answers = encode(self.network, state.teacher, batch["views"][0][:, 0], -1)
        target = jax.nn.softmax(answers / self.temperature)
        if self.pseudo:
            target = jax.nn.one_hot(jnp.argmax(answers, axis=-1), answers.shape[-1], dtype=answers.dtype)
        each = soft_cross_entropy(target, outputs.projection[:, 0], self.temperature)
        loss = self.temperature**2 * jnp.mean(each)
        return Loss(loss, state._replace(stats=stats), {}, outputs.features[:, 0], outputs.features)
