"""CAST: MoCo with supervision of where the network attends, from masks."""

import dataclasses
import functools
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError
from ssl_jax.fields import positive
from ssl_jax.memory import push, random_queue
from ssl_jax.method import Decay, Method, Result, apply, follow, initialize
from ssl_jax.momentum import Keys, find_key, shuffled
from ssl_jax.networks import Outputs
from ssl_jax.numeric import l2_normalize, widen


@dataclasses.dataclass(frozen=True)
class CAST(Method):
    """Contrastive Attention-Supervised Tuning (Selvaraju et al. 2020, arXiv:2012.04630), as in the authors' code.

    The second large view is MoCo's key, all others are queries, and `batch["salience"]` has a mask of the object in
    each. The Grad-CAM map (arXiv:1610.02391) of the similarity between the first view and the key of the masked object
    should match the mask. Images count equally; the authors' code takes one cosine over all images of a GPU.
    """

    decay: Decay  # m of the key encoder; the authors' code moves it twice a step
    queue_size: int = 65536  # keys, a multiple of the batch size
    temperature: Annotated[float, positive] = 0.07  # tau
    weight: float = 0.75  # weight of the Grad-CAM loss: alpha / (alpha + beta)
    shuffle: bool = False  # as in MoCo
    mixes_sizes = False
    large_views = 2
    queues = ("queue",)
    State = Keys

    def check(self, batch):
        super().check(batch)
        if "salience" not in batch:
            raise UserError("CAST needs masks of the objects; set data.masks=true")

    def init(self, key, batch):
        variables, shapes = initialize(self.network, key, batch["views"])
        if shapes.patches[0].shape[2] == 1:
            raise UserError("CAST needs a last feature map of more than one position; raise data.size")
        size, _, dimension = shapes.projection.shape
        queue = random_queue(jax.random.fold_in(key, 1), self.queue_size, dimension, size)
        return {"network": variables.params}, self.State(variables.stats, variables, queue)

    def loss(self, params, state, batch, key, step):
        views, salience, variables = batch["views"], batch["salience"][0], self.variables(params, state)
        own, other = jax.random.split(jax.random.fold_in(key, 1))
        query, stats = apply(self.network, variables, views.without(1), key)
        found, target = shuffled(self.network, state.target, views.only(1), own if self.shuffle else None)
        keys = l2_normalize(found.projection[:, 0])
        moco_loss = find_key(query.projection, keys, state.queue, self.temperature)

        objects = jax.tree.map(lambda view: view * salience[:, 1:2, :, :, None].astype(view.dtype), views.only(1))
        found, target = shuffled(self.network, target, objects, other if self.shuffle else None)
        object_keys = l2_normalize(found.projection[:, 0])
        tree = {"params": variables.params, "batch_stats": variables.stats}
        head = functools.partial(self.network.apply, tree, train=True, method="heads", mutable=["batch_stats"])

        def score(features):
            outputs: Any = head(Outputs(features))[0]
            return jnp.sum(l2_normalize(outputs.projection[:, 0]) * object_keys)

        gradient = jax.grad(score)(query.features[:, :1])[:, 0]
        attention = grad_cam(gradient, widen(query.patches[0][:, 0]))
        object_map = shrunk(salience[:, 0], attention.shape[1])
        cam_loss = 1 - jnp.mean(jnp.sum(l2_normalize(attention) * l2_normalize(object_map), axis=1))

        loss = (1 - self.weight) * moco_loss + self.weight * cam_loss
        state = self.State(stats, target, push(state.queue, keys, step))
        return Result(loss, state, {"cam_loss": cam_loss}, query.features[:, 0], query.projection)

    def after_step(self, params, state, key, step):
        return params, state._replace(target=follow(state.target, params["network"], self.decay(step)))


def grad_cam(gradient: jax.Array, maps: jax.Array) -> jax.Array:
    """Returns the Grad-CAM map [B, S] in [0, 1] of a score: the positions of feature maps that contribute to it.

    Args:
        gradient: [B, C], the gradient of the score with respect to the features. They are the mean of the maps over
            positions, so this is S times the gradient at each position; the scale has no effect.
        maps: [B, S, C], the feature maps.

    Source: arXiv:1610.02391, equation 2. CAST's code scales to [0, 1] in place before its ReLU, which then has no
    effect.
    """
    cam = jax.nn.relu(jnp.einsum("bc,bsc->bs", gradient, maps))
    cam -= jnp.min(cam, axis=1, keepdims=True)
    return cam / (jnp.max(cam, axis=1, keepdims=True) + 1e-7)


def shrunk(masks: jax.Array, positions: int) -> jax.Array:
    """Returns masks [B, H, W], averaged over the S positions of a square map: [B, S]."""
    side = round(positions**0.5)
    return jax.image.resize(masks, (len(masks), side, side), "linear").reshape(-1, positions)
