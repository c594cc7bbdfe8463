"""DeepCluster: cluster the features once per epoch, and train a new classifier to predict the clusters."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.augment import edges
from ssl_jax.errors import UserError
from ssl_jax.losses import cluster_weights, kmeans, prototype_cross_entropy, random_rows, whiten
from ssl_jax.memory import padded
from ssl_jax.method import ImageCount, Method, PyTree, Result, Steps, apply, encode, initialize


@dataclasses.dataclass(frozen=True)
class DeepCluster(Method):
    """Deep Clustering for Unsupervised Learning of Visual Features (Caron et al. 2018, arXiv:1807.05520), section 3.

    The network sees edges, not colours. There are two deviations from the authors' code. It clusters the features of
    centre crops, from a separate pass before each epoch; here they are the features of training, as in DeepCluster-v2,
    so nothing is learned before the first clustering. It samples clusters, then images of them; here images of large
    clusters have smaller weights, since batches do not depend on the state.
    """

    images: ImageCount
    every: Steps  # between two clusterings, an epoch in the paper
    prototypes: int = 10000  # number of clusters
    components: int = 256  # principal components of the features to cluster
    iterations: int = 20  # iterations of k-means
    memories = ("memory", "assignment")

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics
        memory: jax.Array  # [N, D] features of the first view; 0: not seen yet
        assignment: jax.Array  # int32 [N], cluster of each image, -1: unknown
        sizes: jax.Array  # int32 [K], number of images of each cluster

    def check(self, batch):
        super().check(batch)
        check_clustering(self.images, self.prototypes, self.every)

    def init(self, key, batch):
        variables, shapes = initialize(self.network, key, jax.tree.map(edges, batch["views"]))
        dimension = shapes.features.shape[-1]
        if self.components > dimension:
            raise UserError(
                f"method.components is {self.components}, more than the {dimension} features; lower it to {dimension}"
            )
        rows = padded(self.images)
        assignment, sizes = jnp.full(rows, -1, jnp.int32), jnp.zeros(self.prototypes, jnp.int32)
        params = {"network": variables.params, "head": self.new_head(jax.random.fold_in(key, 1), dimension)}
        return params, self.State(variables.stats, jnp.zeros((rows, dimension)), assignment, sizes)

    def new_head(self, key, dimension):
        kernel = 0.01 * jax.random.normal(key, (dimension, self.prototypes))
        return {"kernel": kernel, "bias": jnp.zeros(self.prototypes)}

    def loss(self, params, state, batch, key, step):
        views = jax.tree.map(edges, batch["views"])
        outputs, stats = apply(self.network, self.variables(params, state), views, key)
        features, index = outputs.features, batch["index"]
        logits = features @ params["head"]["kernel"] + params["head"]["bias"][None, None]
        label = jnp.broadcast_to(state.assignment[index][:, None], logits.shape[:2])
        loss = prototype_cross_entropy(logits, label, 1.0, cluster_weights(state.sizes)[label])
        memory = state.memory.at[index].set(jax.lax.stop_gradient(features[:, 0]))
        state = self.State(stats, memory, state.assignment, state.sizes)
        embeddings = features if outputs.projection is None else outputs.projection
        return Result(loss, state, {}, features[:, 0], embeddings)

    def after_step(self, params, state, key, step):
        due = (step + 1) % self.every == 0
        head, state = jax.lax.cond(
            due, lambda head, state: self.cluster(state, key), lambda *same: same, params["head"], state
        )
        return params | {"head": head}, state

    def cluster(self, state: State, key: jax.Array) -> tuple[PyTree, State]:
        """Returns a new head, and the state with new clusters."""
        first, draws, head = jax.random.split(key, 3)
        known = jnp.any(state.memory != 0, axis=1)
        points = whiten(state.memory, known, self.components)
        centroids = points[random_rows(first, known, self.prototypes)]
        _, nearest = kmeans(draws, points, known, centroids, self.iterations)
        sizes = jax.ops.segment_sum(known.astype(jnp.int32), nearest, self.prototypes)
        state = state._replace(assignment=jnp.where(known, nearest, -1), sizes=sizes)
        return self.new_head(head, state.memory.shape[1]), state

    def seen(self, params, state, images):
        return self.variables(params, state), edges(images)

    def represent(self, params, state, images, layers=0):
        variables, seen = self.seen(params, state, images)
        return encode(self.network, variables, seen, layers)


def check_clustering(images: int, clusters: int, every: int) -> None:
    """Checks the hyper-parameters of a clustering of all images.

    Raises:
        UserError: if there are more clusters than images, or `every` is less than one step.
    """
    if clusters > images:
        raise UserError(f"method.prototypes is {clusters}, but there are only {images} images; lower it")
    if every < 1:
        raise UserError(f"method.every is {every} steps; set it to at least 1 step")
