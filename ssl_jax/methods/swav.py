"""SwAV: predict the cluster of one view from another, with clusters kept equally full by Sinkhorn."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.losses import entropy, sinkhorn, swapped_prediction
from ssl_jax.method import Duration, Method, PyTree, apply, initialize, push, shapes
from ssl_jax.numeric import normalize


@dataclasses.dataclass(frozen=True)
class SwAV(Method):
    """Swapping Assignments between Views (Caron et al. 2020, arXiv:2006.09882), section 3 and Algorithm 1.

    The predictor is a layer of prototypes. The views of the first resolution are assigned to them; every view predicts
    the codes of the others. The authors freeze the prototypes at first: an optimiser rule of the config.
    """

    temperature: float = 0.1  # tau
    epsilon: float = 0.05  # entropy of the codes
    iterations: int = 3  # of Sinkhorn-Knopp; 0: codes are a softmax, and all fall into one cluster
    queue_size: int = 0  # past embeddings that help to fill the clusters when the batch is small, 0: none
    queue_from: Duration = Duration(0)  # when the queue begins to fill; it is used once it is full

    memories = ("queue",)

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics
        queue: jax.Array  # [Q, A, D] past embeddings of the A assigned views, newest first

    def init(self, key, batch):
        params, stats = initialize(self.network, key, batch["views"])
        dimension = shapes(self.network, params, stats, batch["views"]).projection.shape[-1]
        queue = jnp.zeros((self.queue_size, batch["views"][0].shape[1], dimension))
        return unit_prototypes(params), self.State(stats, queue)

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, params, state.stats, batch["views"])
        assigned = batch["views"][0].shape[1]
        codes = jax.lax.stop_gradient(self.codes(params, outputs.prediction[:, :assigned], state.queue, step))
        loss = swapped_prediction(codes, outputs.prediction, self.temperature)
        embeddings = normalize(jax.lax.stop_gradient(outputs.projection[:, :assigned]))
        queue = push(state.queue, embeddings[: self.queue_size])
        metrics = {
            "outputs": outputs,
            "code_entropy": jnp.mean(entropy(codes)) / jnp.log(codes.shape[-1]),
            "cluster_entropy": entropy(jnp.mean(codes, axis=(0, 1))) / jnp.log(codes.shape[-1]),
            "uniform_loss": jnp.log(outputs.prediction.shape[-1] * 1.0),
        }
        return loss, (self.State(stats, queue), metrics)

    def codes(self, params, scores, queue, step):
        """Returns the codes [B, A, K] of scores [B, A, K]; rows of a queue that is not in use yet weigh nothing."""
        size = scores.shape[0]
        past = queue @ params["predictor"]["kernel"] if self.queue_size else None
        full = step >= self.queue_from + self.queue_size // size
        weight = full.astype(scores.dtype)
        assign = jax.vmap(lambda rows, past: sinkhorn(rows, self.epsilon, self.iterations, past, weight), 1, 1)
        return assign(scores, past)

    def after_step(self, params, state, step):
        return unit_prototypes(params), state


def unit_prototypes(params: PyTree) -> PyTree:
    """Returns the parameters with every prototype, a column of the kernel [D, K], at unit length."""
    kernel = normalize(params["predictor"]["kernel"], axis=0)
    return params | {"predictor": params["predictor"] | {"kernel": kernel}}
