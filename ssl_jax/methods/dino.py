"""DINO: predict, from any view, how a moving average of the network sorts the large views into prototypes."""

import dataclasses
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.distillation import check_scores, target_entropies
from ssl_jax.fields import positive, share
from ssl_jax.losses import centered_softmax, cross_views, soft_cross_entropy
from ssl_jax.method import Decay, Method, PyTree, Result, Temperature, Variables, apply, follow, initialize
from ssl_jax.numeric import ema


@dataclasses.dataclass(frozen=True)
class DINO(Method):
    """Self-distillation with no labels (Caron et al. 2021, arXiv:2104.14294), Algorithm 1.

    The predictor is the weight-normalised last layer of the paper's head. The teacher is what is evaluated. Without
    centring (`center_decay` 1) all images get the same one-hot target; without sharpening (a teacher temperature as
    high as the student's) targets become uniform.
    """

    decay: Decay  # lambda of the teacher: 0.996 -> 1 along a cosine
    teacher_temperature: Temperature  # tau_t
    temperature: Annotated[float, positive] = 0.1  # tau_s, of the student
    center_decay: Annotated[float, share] = 0.9  # m of the centre; 1: it stays 0
    large_views = 2

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics of the student
        target: Variables  # the teacher: moving average of the student
        center: jax.Array  # [K] moving average of the teacher's scores

    def check(self, batch):
        super().check(batch)
        check_scores(self.network)

    def init(self, key, batch):
        variables, shapes = initialize(self.network, key, batch["views"])
        center = jnp.zeros(shapes.prediction.shape[-1])
        return {"network": variables.params}, self.State(variables.stats, variables, center)

    def loss(self, params, state, batch, key, step):
        student, stats = apply(self.network, Variables(params["network"], state.stats), batch["views"], key)
        teacher, teacher_stats = apply(self.network, state.target, batch["views"].large)
        targets = centered_softmax(teacher.prediction, state.center, self.teacher_temperature(step))
        pairs = soft_cross_entropy(targets[:, :, None], student.prediction[:, None], self.temperature)  # [B, A, V]
        center = ema(state.center, jnp.mean(teacher.prediction, axis=(0, 1)), self.center_decay)
        state = self.State(stats, state.target._replace(stats=teacher_stats), center)
        metrics = target_entropies(targets)
        return Result(cross_views(pairs), state, metrics, teacher.features[:, 0], student.projection)

    def after_step(self, params, state, key, step):
        return params, state._replace(target=follow(state.target, params["network"], self.decay(step)))

    def variables(self, params, state):
        return state.target
