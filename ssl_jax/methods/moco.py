"""MoCo: queries find their key among a queue of keys made by a slowly moving encoder."""

import dataclasses

import jax
import jax.numpy as jnp

from ssl_jax.losses import info_nce
from ssl_jax.method import Keys, Method, Schedule, apply, ema, initialize, push, random_queue, shapes, two_views
from ssl_jax.numeric import normalize


@dataclasses.dataclass(frozen=True)
class MoCo(Method):
    """Momentum Contrast (He et al. 2019, arXiv:1911.05722, Algorithm 1; v2: Chen et al. 2020, arXiv:2003.04297).

    View 0 is the query, view 1 the key. The paper moves the key encoder before it encodes the keys; moving it after the
    step is the same sequence.
    """

    decay: Schedule  # m of the key encoder
    queue_size: int = 65536  # keys, at least those of one step
    temperature: float = 0.2  # tau
    shuffle: bool = False  # keys meet other rows than queries in split BatchNorm statistics (section 3.3)
    symmetric: bool = False  # each view is query and key once (the authors' CIFAR-10 notebook)
    memories = ("queue",)
    State = Keys

    def init(self, key, batch):
        size = len(two_views(batch["views"])) * len(self.directions)
        params, stats = initialize(self.network, key, batch["views"])
        dimension = shapes(self.network, params, stats, batch["views"]).projection.shape[-1]
        queue = random_queue(jax.random.fold_in(key, 1), self.queue_size, dimension, size)
        return params, self.State(stats, params, stats, queue)

    def loss(self, params, state, batch, key, step):
        views = two_views(batch["views"])
        stats, target_stats, losses, keys = state.stats, state.target_stats, [], []
        for query, other in self.directions:
            online, stats = apply(self.network, params, stats, (views[:, query : query + 1],))
            shuffle = jax.random.fold_in(key, query) if self.shuffle else None
            target, target_stats = apply(
                self.network, state.target, target_stats, (views[:, other : other + 1],), shuffle
            )
            keys.append(normalize(target.projection[:, 0]))
            losses.append(info_nce(normalize(online.projection[:, 0]), keys[-1], state.queue, self.temperature))
        queue = push(state.queue, jnp.concatenate(keys))
        uniform = len(losses) * jnp.log(self.queue_size + 1.0)
        metrics = {"outputs": online, "uniform_loss": uniform}
        return sum(losses), (self.State(stats, state.target, target_stats, queue), metrics)

    @property
    def directions(self) -> tuple[tuple[int, int], ...]:
        """(view that asks, view that is the key)."""
        return ((1, 0), (0, 1)) if self.symmetric else ((0, 1),)

    def after_step(self, params, state, step):
        return params, state._replace(target=ema(state.target, params, self.decay(step)))
