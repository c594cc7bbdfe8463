"""CAST: MoCo whose queries must look where the object is."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError
from ssl_jax.losses import info_nce
from ssl_jax.method import Keys, Method, Schedule, apply, ema, initialize, push, random_queue, shapes, two_views
from ssl_jax.networks import Network, Outputs
from ssl_jax.numeric import normalize


@dataclasses.dataclass(frozen=True)
class CAST(Method):
    """Contrastive Attention-Supervised Tuning (Selvaraju et al. 2020, arXiv:2012.04630), with the authors' code.

    View 0 is MoCo's query, view 1 the key, and `batch["masks"]` says where the object is in each. What makes the query
    resemble the key of the object alone, told by Grad-CAM (arXiv:1610.02391), must lie on the object. Each image counts
    alike; the authors' code takes one cosine over all images of a GPU.
    """

    decay: Schedule  # m of the key encoder; the authors' code moves it twice a step
    queue_size: int = 65536  # keys, at least those of one step
    temperature: float = 0.07  # tau
    weight: float = 0.75  # of the Grad-CAM loss: alpha / (alpha + beta)
    shuffle: bool = False  # as in MoCo
    memories = ("queue",)
    State = Keys

    def init(self, key, batch):
        if "masks" not in batch:
            raise UserError("CAST learns to look where masks say; set data.masks=true")
        size = len(two_views(batch["views"]))
        params, stats = initialize(self.mapped, key, batch["views"])
        outputs = shapes(self.mapped, params, stats, batch["views"])
        if outputs.maps.shape[2] == 1:
            raise UserError("CAST needs a last map of more than one position; raise data.size")
        queue = random_queue(jax.random.fold_in(key, 1), self.queue_size, outputs.projection.shape[-1], size)
        return params, self.State(stats, params, stats, queue)

    def loss(self, params, state, batch, key, step):
        views, (masks,) = two_views(batch["views"]), batch["masks"]
        query, stats = apply(self.mapped, params, state.stats, (views[:, :1],))
        keys, target_stats = self.find_keys(state.target, state.target_stats, views[:, 1:], key)
        moco_loss = info_nce(normalize(query.projection[:, 0]), keys, state.queue, self.temperature)

        objects = views[:, 1:] * masks[:, 1:, :, :, None]
        own = jax.random.fold_in(key, 1)
        object_keys, target_stats = self.find_keys(state.target, target_stats, objects, own)
        variables = {"params": params, "batch_stats": state.stats}
        head = functools.partial(self.network.apply, variables, train=True, method="heads", mutable=["batch_stats"])

        def score(features):
            outputs: Any = head(Outputs(features))[0]
            return jnp.sum(normalize(outputs.projection[:, 0]) * object_keys)

        attention = grad_cam(jax.grad(score)(query.features)[:, 0], query.maps[:, 0])
        object_map = shrunk(masks[:, 0], attention.shape[1])
        cam_loss = 1 - jnp.mean(jnp.sum(normalize(attention) * normalize(object_map), axis=1))

        loss = (1 - self.weight) * moco_loss + self.weight * cam_loss
        metrics = {"outputs": query, "cam_loss": cam_loss}
        return loss, (self.State(stats, state.target, target_stats, push(state.queue, keys)), metrics)

    def after_step(self, params, state, step):
        return params, state._replace(target=ema(state.target, params, self.decay(step)))

    def find_keys(self, target, stats, view, key):
        """The unit-norm keys [B, D] of a view [B, 1, H, W, C], and the key encoder's new statistics."""
        shuffle = key if self.shuffle else None
        outputs, stats = apply(self.network, target, stats, (view,), shuffle)
        return normalize(outputs.projection[:, 0]), stats

    @property
    def mapped(self) -> Network:
        """The network, with its last maps among the outputs."""
        return self.network.clone(maps=True)


def grad_cam(gradient: jax.Array, maps: jax.Array) -> jax.Array:
    """Returns where in maps [B, S, C] a score comes from: [B, S], in [0, 1].

    Args:
        gradient: [B, C], of the score by the features. As they are the mean of the maps over positions, it is S times
            the gradient by the maps, at every position; scale has no effect.
        maps: [B, S, C].

    Source: arXiv:1610.02391, equation 2. CAST's code scales to [0, 1] in place before it cuts negative parts off, which
    does nothing then.
    """
    cam = jax.nn.relu(jnp.einsum("bc,bsc->bs", gradient, maps))
    cam -= jnp.min(cam, axis=1, keepdims=True)
    return cam / (jnp.max(cam, axis=1, keepdims=True) + 1e-7)


def shrunk(masks: jax.Array, positions: int) -> jax.Array:
    """Returns masks [B, H, W] averaged down to the positions of a square map: [B, S]."""
    side = round(positions**0.5)
    return jax.image.resize(masks, (len(masks), side, side), "linear").reshape(-1, positions)
