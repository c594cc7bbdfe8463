"""ReSSL: match the similarities of a strongly augmented view to past images to those of a weakly augmented view."""

import dataclasses
from typing import Annotated

import jax.numpy as jnp

from ssl_jax.fields import positive
from ssl_jax.losses import relational
from ssl_jax.memory import push, queue_rows
from ssl_jax.method import Decay, Method, Result, apply, follow
from ssl_jax.momentum import Keys, first_keys, shuffled
from ssl_jax.numeric import l2_normalize


@dataclasses.dataclass(frozen=True)
class ReSSL(Method):
    """Relational Self-Supervised Learning (Zheng et al. 2021, arXiv:2107.09282, Algorithm 1).

    The target sees the second large view, which recipes augment weakly; all other views are the student's. To update
    the target after the step, not before it is used, gives the same sequence.
    """

    decay: Decay  # m of the target
    queue_size: int = 131072  # embeddings of the target, a multiple of the batch
    temperature: Annotated[float, positive] = 0.1  # tau_s, of the student
    target_temperature: Annotated[float, positive] = 0.04  # tau_t, lower than tau_s for a sharper distribution
    shuffle: bool = False  # whether split BatchNorm statistics mix the target's rows differently, as in MoCo
    large_views = 2
    queues = ("queue",)
    State = Keys

    def init(self, key, batch):
        return first_keys(self.network, key, batch["views"], self.queue_size)

    def loss(self, params, state, batch, key, step):
        strong, weak = batch["views"].without(1), batch["views"].only(1)
        online, stats = apply(self.network, self.variables(params, state), strong, key)
        found, target = shuffled(self.network, state.target, weak, key if self.shuffle else None)
        student, teacher = l2_normalize(online.projection), l2_normalize(found.projection)
        others = queue_rows(state.queue)
        loss = relational(student, teacher, others, self.temperature, self.target_temperature)
        metrics = {"uniform_loss": jnp.log(jnp.float32(self.queue_size))}
        state = self.State(stats, target, push(state.queue, teacher[:, 0], step))
        return Result(loss, state, metrics, online.features[:, 0], online.projection)

    def after_step(self, params, state, key, step):
        return params, state._replace(target=follow(state.target, params["network"], self.decay(step)))
