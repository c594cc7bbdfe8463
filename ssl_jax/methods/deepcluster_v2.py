"""DeepCluster-v2: cluster the embeddings once per epoch, and predict the cluster of an image from every crop."""

import dataclasses
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.fields import positive
from ssl_jax.losses import prototype_cross_entropy, random_rows, spherical_kmeans
from ssl_jax.memory import padded
from ssl_jax.method import ImageCount, Method, PyTree, Result, Steps, apply, initialize
from ssl_jax.methods.deepcluster import check_clustering
from ssl_jax.numeric import l2_normalize


@dataclasses.dataclass(frozen=True)
class DeepClusterV2(Method):
    """DeepCluster-v2, appendix of SwAV (Caron et al. 2020, arXiv:2006.09882).

    Nothing is learned before the first clustering, while the memory fills, as in the authors' pass before training.
    """

    images: ImageCount
    every: Steps  # between two clusterings, an epoch in the paper
    prototypes: int = 3000  # clusters of each head
    heads: int = 3  # clusterings, which differ in their initial centroids
    temperature: Annotated[float, positive] = 0.1  # tau
    iterations: int = 10  # iterations of k-means
    memories = ("memory", "assignment")

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics
        memory: jax.Array  # [N, A, D] unit-norm embeddings of the A large views; 0: not seen yet
        assignment: jax.Array  # int32 [N, H], cluster of each image for each head, -1: unknown
        centroids: jax.Array  # [H, K, D], of unit length

    def check(self, batch):
        super().check(batch)
        check_clustering(self.images, self.prototypes, self.every)

    def init(self, key, batch):
        variables, shapes = initialize(self.network, key, batch["views"])
        dimension, rows = shapes.projection.shape[-1], padded(self.images)
        memory = jnp.zeros((rows, batch["views"].large.total, dimension))
        assignment = jnp.full((rows, self.heads), -1, jnp.int32)
        centroids = jnp.zeros((self.heads, self.prototypes, dimension))
        return {"network": variables.params}, self.State(variables.stats, memory, assignment, centroids)

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        embedding, index = l2_normalize(outputs.projection), batch["index"]
        scores = jnp.einsum("bvd,hkd->bvhk", embedding, state.centroids)
        assignment = jnp.broadcast_to(state.assignment[index][:, None, :], scores.shape[:3])
        loss = prototype_cross_entropy(scores, assignment, self.temperature)
        seen = jax.lax.stop_gradient(embedding[:, : state.memory.shape[1]])
        state = self.State(stats, state.memory.at[index].set(seen), state.assignment, state.centroids)
        metrics = {"uniform_loss": jnp.log(self.prototypes * 1.0)}
        return Result(loss, state, metrics, outputs.features[:, 0], outputs.projection)

    def after_step(self, params, state, key, step):
        due = (step + 1) % self.every == 0
        return params, jax.lax.cond(due, lambda state: self.cluster(state, key), lambda state: state, state)

    def cluster(self, state: State, key: jax.Array) -> State:
        """Returns the state with new centroids and assignments, by k-means from random rows of the memory."""
        known = jnp.any(state.memory != 0, axis=(1, 2))

        def one(head):
            points = state.memory[:, head % state.memory.shape[1]]
            first = points[random_rows(jax.random.fold_in(key, head), known, self.prototypes)]
            centroids, assignment = spherical_kmeans(points, first, self.iterations)
            return centroids, jnp.where(known, assignment, -1)

        centroids, assignment = zip(*map(one, range(self.heads)), strict=True)
        return state._replace(centroids=jnp.stack(centroids), assignment=jnp.stack(assignment, axis=1))
