"""InfoMin: MoCo with views that share little information, and with shuffled patches as a further query."""

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError
from ssl_jax.fields import positive
from ssl_jax.memory import push, random_queue
from ssl_jax.method import Decay, Method, Result, Variables, apply, follow, initialize
from ssl_jax.momentum import Keys, find_key, shuffled
from ssl_jax.networks import Jigsaw
from ssl_jax.numeric import l2_normalize


@dataclasses.dataclass(frozen=True)
class InfoMin(Method):
    """What Makes for Good Views (Tian et al. 2020, arXiv:2005.10243), section 4.3, as in the authors' PyContrast.

    The second large view is MoCo's key; all other views are queries, and all patches of a grid together are one.
    """

    decay: Decay  # m of the key encoder
    queue_size: int = 65536  # keys, a multiple of the batch size
    temperature: Annotated[float, positive] = 0.15  # tau
    weight: float = 0.5  # beta, weight of the patches
    shuffle: bool = False  # as in MoCo
    mixes_sizes = False
    large_views = 2
    queues = ("queue",)
    State = Keys

    def check(self, batch):
        super().check(batch)
        if not batch["views"].patch:
            raise UserError("InfoMin needs two views and a grid of patches; set augment.recipe=infomin")

    def init(self, key, batch):
        variables, shapes = initialize(self.network, key, batch["views"].large)
        size, _, dimension = shapes.projection.shape
        queue = random_queue(jax.random.fold_in(key, 1), self.queue_size, dimension, size)
        features = jnp.zeros((size, batch["views"].patch.total, shapes.features.shape[-1]))
        jigsaw = self.jigsaw(queue).init(jax.random.fold_in(key, 2), features, jnp.zeros(features.shape[:2], int))
        params = {"network": variables.params, "jigsaw": jigsaw["params"]}
        return params, self.State(variables.stats, variables, queue)

    def loss(self, params, state, batch, key, step):
        views, own = batch["views"], jax.random.fold_in(key, 1)
        online, stats = apply(self.network, self.variables(params, state), views.of("large", "small").without(1), key)
        found, target = shuffled(self.network, state.target, views.only(1), own if self.shuffle else None)
        keys = l2_normalize(found.projection[:, 0])
        whole_loss = find_key(online.projection, keys, state.queue, self.temperature)

        parts, stats = apply(self.network, Variables(params["network"], stats), views.patch, own)
        places = jnp.broadcast_to(jnp.arange(parts.features.shape[1]), parts.features.shape[:2])
        order = jax.random.permutation(jax.random.fold_in(key, 2), places, axis=1, independent=True)
        query: Any = self.jigsaw(state.queue).apply({"params": params["jigsaw"]}, parts.features, order)
        jigsaw_loss = find_key(query[:, None], keys, state.queue, self.temperature)

        loss = (1 - self.weight) * whole_loss + self.weight * jigsaw_loss
        metrics = {"jigsaw_loss": jigsaw_loss, "uniform_loss": jnp.log(self.queue_size + 1.0)}
        state = self.State(stats, target, push(state.queue, keys, step))
        return Result(loss, state, metrics, online.features[:, 0], online.projection)

    def after_step(self, params, state, key, step):
        return params, state._replace(target=follow(state.target, params["network"], self.decay(step)))

    def jigsaw(self, queue) -> Jigsaw:
        return Jigsaw(queue.shape[-1])
