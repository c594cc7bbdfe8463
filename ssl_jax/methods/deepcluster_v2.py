"""DeepCluster-v2: once an epoch embeddings are clustered, and every crop predicts its image's cluster."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.losses import prototype_cross_entropy, random_rows, spherical_kmeans
from ssl_jax.method import Duration, Images, Method, PyTree, apply, check_clustering, initialize, padded, shapes
from ssl_jax.numeric import normalize


@dataclasses.dataclass(frozen=True)
class DeepClusterV2(Method):
    """DeepCluster-v2, appendix of SwAV (Caron et al. 2020, arXiv:2006.09882).

    Until the first clustering nothing is learned: the memory fills, as in the authors' pass before the first epoch.
    """

    images: Images
    every: Duration  # between two clusterings, an epoch in the paper
    prototypes: int = 3000  # clusters of each head
    heads: int = 3  # clusterings that differ by their first centroids
    temperature: float = 0.1  # tau
    iterations: int = 10  # of k-means
    memories = ("memory", "assignment")

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics
        memory: jax.Array  # [N, A, D] unit-norm embeddings of the A views of the first resolution; 0: not seen yet
        assignment: jax.Array  # int32 [N, H], cluster of each image for each head, -1: unknown
        centroids: jax.Array  # [H, K, D], of unit length

    def init(self, key, batch):
        check_clustering(self.images, self.prototypes, self.every)
        params, stats = initialize(self.network, key, batch["views"])
        dimension = shapes(self.network, params, stats, batch["views"]).projection.shape[-1]
        rows, views = padded(self.images), batch["views"][0].shape[1]
        memory = jnp.zeros((rows, views, dimension))
        assignment = jnp.full((rows, self.heads), -1, jnp.int32)
        return params, self.State(stats, memory, assignment, jnp.zeros((self.heads, self.prototypes, dimension)))

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, params, state.stats, batch["views"])
        embedding, index = normalize(outputs.projection), batch["index"]
        scores = jnp.einsum("bvd,hkd->bvhk", embedding, state.centroids)
        assignment = jnp.broadcast_to(state.assignment[index][:, None, :], scores.shape[:3])
        loss = prototype_cross_entropy(scores, assignment, self.temperature)
        seen = jax.lax.stop_gradient(embedding[:, : state.memory.shape[1]])
        state = self.State(stats, state.memory.at[index].set(seen), state.assignment, state.centroids)
        return loss, (state, {"outputs": outputs, "uniform_loss": jnp.log(self.prototypes * 1.0)})

    def after_step(self, params, state, step):
        key = jax.random.fold_in(jax.random.key(0), step)
        due = (step + 1) % self.every == 0
        return params, jax.lax.cond(due, lambda state: self.cluster(state, key), lambda state: state, state)

    def cluster(self, state: State, key: jax.Array) -> State:
        """Returns the state with new centroids and assignments, found anew from random images of the memory."""
        known = jnp.any(state.memory != 0, axis=(1, 2))

        def one(head):
            points = state.memory[:, head % state.memory.shape[1]]
            first = points[random_rows(jax.random.fold_in(key, head), known, self.prototypes)]
            centroids, assignment = spherical_kmeans(points, first, self.iterations)
            return centroids, jnp.where(known, assignment, -1)

        centroids, assignment = zip(*map(one, range(self.heads)), strict=True)
        return state._replace(centroids=jnp.stack(centroids), assignment=jnp.stack(assignment, axis=1))
