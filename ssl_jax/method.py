"""What a method is: a frozen dataclass of pure functions, and the few helpers that methods share."""

import dataclasses
from typing import Any, ClassVar, NamedTuple, NewType

import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError
from ssl_jax.networks.network import Network, Outputs
from ssl_jax.numeric import as_rows, normalize
from ssl_jax.schedule import Schedule

__all__ = [
    "Batch",
    "Classes",
    "Duration",
    "Images",
    "Keys",
    "Method",
    "PyTree",
    "Schedule",
    "apply",
    "check_clustering",
    "ema",
    "encode",
    "initialize",
    "initialize_with_proxies",
    "labelled_rows",
    "padded",
    "push",
    "random_queue",
    "shapes",
    "two_views",
]

PyTree = Any
Batch = dict[str, Any]
Duration = NewType(
    "Duration", int
)  # in steps; a config may say "10 epochs" or "40000 examples", see `schedule.duration`
# Filled in from the training images when a run is built; a config does not set them.
Images = NewType("Images", int)  # how many there are
Classes = NewType("Classes", int)  # how many classes they have


class Stats(NamedTuple):
    """The state of methods that remember nothing else."""

    stats: PyTree  # BatchNorm statistics


class Keys(NamedTuple):
    """The state of methods whose negatives are a queue of keys that a slowly moving encoder made."""

    stats: PyTree  # BatchNorm statistics of the query encoder
    target: PyTree  # the key encoder: moving average of the query encoder's parameters
    target_stats: PyTree
    queue: jax.Array  # [K, D] unit-norm keys, newest first


@dataclasses.dataclass(frozen=True)
class Method:
    """One paper's algorithm on global arrays: it calls no collective, holds no array and knows no device.

    The fields are its hyper-parameters and its network. `State` is what it remembers beside the trained parameters; the
    tree, shapes and dtypes of a state never change. A method writes `loss`, and overrides the rest where it must.
    """

    network: Network

    needs_labels: ClassVar[bool] = False
    # Fields of the state that grow with the images or keys: their rows are split over the devices.
    memories: ClassVar[tuple[str, ...]] = ()
    State: ClassVar[Any] = Stats

    def init(self, key: jax.Array, batch: Batch) -> tuple[PyTree, Any]:
        """Returns the parameters to train and the first state, for a batch with `views` and what else `loss` reads."""
        params, stats = initialize(self.network, key, batch["views"])
        return params, self.State(stats)

    def loss(self, params: PyTree, state: Any, batch: Batch, key: jax.Array, step: jax.Array) -> tuple:
        """Returns `loss, (state, metrics)`.

        `metrics` holds scalars to log, and under "outputs" the trained network's `Outputs` for the batch, which the
        trainer takes out to feed the online probe and the collapse watch. A scalar "uniform_loss" tells the value of
        the loss at which nothing is distinguished, where there is one.
        """
        raise TypeError(f"{type(self).__name__} defines no loss")

    def after_step(self, params: PyTree, state: Any, step: jax.Array) -> tuple[PyTree, Any]:
        """Returns `params, state` after all that is not gradient descent: moving averages, unit-norm prototypes."""
        return params, state

    def features(self, params: PyTree, state: Any, images: jax.Array) -> jax.Array:
        """Returns the representation [B, D] of normalised images [B, H, W, C]; each depends on its own image alone."""
        return encode(self.network, params, state.stats, images)


def initialize(network: Network, key: jax.Array, views: tuple[jax.Array, ...]) -> tuple[PyTree, PyTree]:
    """Returns the network's first parameters and normalisation statistics."""
    variables = network.init(key, views, train=True)
    return variables["params"], variables.get("batch_stats", {})


def initialize_with_proxies(
    network: Network, key: jax.Array, views: tuple[jax.Array, ...], classes: int
) -> tuple[PyTree, PyTree]:
    """As `initialize`, with a random row for each class among the parameters: `proxies` [classes, D]."""
    params, stats = initialize(network, key, views)
    dimension = shapes(network, params, stats, views).projection.shape[-1]
    proxies = jax.random.normal(jax.random.fold_in(key, 1), (classes, dimension))
    return params | {"proxies": proxies}, stats


def apply(
    network: Network, params: PyTree, stats: PyTree, views: tuple[jax.Array, ...], shuffle: jax.Array | None = None
) -> tuple[Outputs, PyTree]:
    """Runs the network on the views in training mode; returns its outputs [B, V, D] and the new statistics.

    With a key as `shuffle`, rows are in a random order on their way through the network. Where a BatchNorm has
    statistics of sub-batches, a query and its key are then in different company, and cannot be told by their
    statistics: shuffling BN (He et al. 2019, arXiv:1911.05722, section 3.3).
    """
    if shuffle is not None:
        order = jax.random.permutation(shuffle, views[0].shape[0])
        outputs, stats = apply(network, params, stats, tuple(x[order] for x in views))
        back = jnp.argsort(order)
        return jax.tree.map(lambda x: x[back], outputs), stats
    outputs, updated = network.apply(
        {"params": params, "batch_stats": stats}, views, train=True, mutable=["batch_stats"]
    )
    return outputs, updated.get("batch_stats", {})


def encode(network: Network, params: PyTree, stats: PyTree, images: jax.Array, layers: int = 0) -> jax.Array:
    """Returns the encoder's features [B, D] of images [B, H, W, C] in evaluation mode, see `Network.encode`."""
    features: Any = network.apply({"params": params, "batch_stats": stats}, images, layers, method="encode")
    return features


def shapes(network: Network, params: PyTree, stats: PyTree, views: tuple[jax.Array, ...]) -> Outputs:
    """Returns the shapes of what `apply` would return, without computing it."""
    outputs, _ = jax.eval_shape(lambda: apply(network, params, stats, views))
    return outputs


def labelled_rows(projection: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns projections [B, V, D] as rows [B V, D] of unit length, and the label [B V] of each."""
    return as_rows(normalize(projection)), jnp.repeat(label, projection.shape[1])


def two_views(views: tuple[jax.Array, ...]) -> jax.Array:
    """Returns the array [B, 2, H, W, C] of a batch that has two views of one resolution.

    Raises:
        UserError: it has others.
    """
    counts = [array.shape[1] for array in views]
    if counts != [2]:
        raise UserError(f"this method takes two views of one size, not {counts}; choose another augment.recipe")
    return views[0]


def ema(average: PyTree, new: PyTree, decay: jax.Array | float) -> PyTree:
    """Returns the moving average `decay * average + (1 - decay) * new`, leaf by leaf."""

    def move(old, value):
        rate = jnp.asarray(decay, old.dtype)
        return rate * old + (1 - rate) * value

    return jax.tree.map(move, average, new)


def check_clustering(images: int, clusters: int, every: int) -> None:
    """Complains about more clusters than there are images, and about a time between clusterings of no step at all."""
    if clusters > images:
        raise UserError(f"{images} images make no {clusters} clusters; lower method.prototypes")
    if every < 1:
        raise UserError("there is no step between two clusterings; raise method.every")


def padded(images: int) -> int:
    """Returns the rows of a memory of so many images: rounded up, so that up to 1024 devices can share them evenly."""
    return -(-images // 1024) * 1024


def random_queue(key: jax.Array, size: int, dimension: int, pushed: int) -> jax.Array:
    """Returns a queue [size, dimension] of random rows of unit length.

    Raises:
        UserError: it does not hold the rows that a step pushes.
    """
    if size < pushed:
        raise UserError(f"a queue of {size} keys holds no step's {pushed}; raise method.queue_size")
    return normalize(jax.random.normal(key, (size, dimension)))


def push(queue: jax.Array, rows: jax.Array) -> jax.Array:
    """Returns the queue [K, ...] with rows [B, ...] put at its front and the B oldest dropped; K >= B."""
    return jnp.concatenate([rows.astype(queue.dtype), queue[: queue.shape[0] - rows.shape[0]]])
