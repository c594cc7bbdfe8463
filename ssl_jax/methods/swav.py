"""SwAV: predict the cluster of one view from another, with clusters balanced by Sinkhorn-Knopp."""

import dataclasses
from typing import Annotated, NamedTuple

import jax

from ssl_jax.distillation import target_entropies
from ssl_jax.fields import not_negative, positive
from ssl_jax.losses import sinkhorn, swapped_prediction
from ssl_jax.memory import empty_queue, push, queue_rows
from ssl_jax.method import Method, PyTree, Result, Steps, apply, initialize
from ssl_jax.numeric import l2_normalize


@dataclasses.dataclass(frozen=True)
class SwAV(Method):
    """Swapping Assignments between Views (Caron et al. 2020, arXiv:2006.09882), section 3 and Algorithm 1.

    The predictor is a layer of prototypes. Large views are assigned to them; every view predicts the codes of the
    others. The authors freeze the prototypes at first; here an optimiser rule of the config does.
    """

    temperature: Annotated[float, positive] = 0.1  # tau
    epsilon: Annotated[float, positive] = 0.05  # entropy of the codes
    iterations: Annotated[int, not_negative] = 3  # of Sinkhorn-Knopp; 0: codes are a softmax, which collapses
    queue_size: int = 0  # images whose past embeddings help to balance the clusters of small batches; 0: none
    queue_from: Steps = Steps(0)  # step at which the queue begins to fill; it is used when it is full
    queues = ("queue",)

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics
        queue: jax.Array  # [Q / B, B, A, D] past embeddings of the A large views

    def init(self, key, batch):
        variables, shapes = initialize(self.network, key, batch["views"])
        size, _, dimension = shapes.projection.shape
        queue = empty_queue(self.queue_size, size, (batch["views"].large.total, dimension))
        return {"network": unit_prototypes(variables.params)}, self.State(variables.stats, queue)

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        large = batch["views"].large.total
        codes = jax.lax.stop_gradient(self.codes(params, outputs.prediction[:, :large], state.queue, step))
        loss = swapped_prediction(codes, outputs.prediction, self.temperature)
        queue = push(state.queue, l2_normalize(jax.lax.stop_gradient(outputs.projection[:, :large])), step)
        state = self.State(stats, queue)
        return Result(loss, state, target_entropies(codes), outputs.features[:, 0], outputs.projection)

    def codes(self, params, scores, queue, step):
        """Returns the codes [B, A, K] of scores [B, A, K]; a queue that is not in use yet has no weight."""
        kernel = params["network"]["predictor"]["kernel"]
        past = queue_rows(queue) @ kernel if self.queue_size else None
        weight = (step >= self.queue_from + len(queue)).astype(scores.dtype)
        assign = jax.vmap(lambda rows, past: sinkhorn(rows, self.epsilon, self.iterations, past, weight), 1, 1)
        return assign(scores, past)

    def after_step(self, params, state, key, step):
        return params | {"network": unit_prototypes(params["network"])}, state


def unit_prototypes(network: PyTree) -> PyTree:
    """Returns the parameters with every prototype, a column of the kernel [D, K], scaled to unit length."""
    kernel = l2_normalize(network["predictor"]["kernel"], axis=0)
    return network | {"predictor": network["predictor"] | {"kernel": kernel}}
