"""MoCo: match queries to their keys, among a queue of keys from a moving average of the encoder."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp

from ssl_jax.fields import positive
from ssl_jax.memory import push
from ssl_jax.method import Decay, Method, Result, Variables, apply, follow
from ssl_jax.momentum import Keys, find_key, first_keys, shuffled
from ssl_jax.numeric import as_rows, l2_normalize


@dataclasses.dataclass(frozen=True)
class MoCo(Method):
    """Momentum Contrast (He et al. 2019, arXiv:1911.05722, Algorithm 1; v2: Chen et al. 2020, arXiv:2003.04297).

    The key is the second large view; all other views are queries. The paper updates the key encoder before it encodes
    the keys; to update it after the step gives the same sequence.
    """

    decay: Decay  # m of the key encoder
    queue_size: int = 65536  # keys, a multiple of the keys per step
    temperature: Annotated[float, positive] = 0.2  # tau
    shuffle: bool = False  # whether split BatchNorm statistics mix keys with other rows than queries (section 3.3)
    symmetric: bool = False  # whether each large view is the key once (the authors' CIFAR-10 notebook)
    in_batch: bool = False  # whether the keys of other images of the batch are negatives too (SimCLR v2 with a memory)
    large_views = 2
    queues = ("queue",)
    State = Keys

    def init(self, key, batch):
        return first_keys(self.network, key, batch["views"], self.queue_size, len(self.key_views))

    def loss(self, params, state, batch, key, step):
        stats, target, losses, keys = state.stats, state.target, [], []
        for view in self.key_views:
            own = jax.random.fold_in(key, view)
            queries = batch["views"].without(view)
            online, stats = apply(self.network, Variables(params["network"], stats), queries, own)
            found, target = shuffled(self.network, target, batch["views"].only(view), own if self.shuffle else None)
            keys.append(l2_normalize(found.projection[:, 0]))
            losses.append(find_key(online.projection, keys[-1], state.queue, self.temperature, self.in_batch))
        queue = push(state.queue, as_rows(jnp.stack(keys, axis=1)), step)
        candidates = self.queue_size + (len(keys[0]) if self.in_batch else 1.0)
        metrics = {"uniform_loss": len(losses) * jnp.log(candidates)}
        state = self.State(stats, target, queue)
        return Result(jnp.sum(jnp.stack(losses)), state, metrics, online.features[:, 0], online.projection)

    @property
    def key_views(self) -> tuple[int, ...]:
        """The views that are the key, one after the other."""
        return (0, 1) if self.symmetric else (1,)

    def after_step(self, params, state, key, step):
        return params, state._replace(target=follow(state.target, params["network"], self.decay(step)))
