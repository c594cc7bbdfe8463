"""The protocol: a method is a frozen dataclass of pure functions."""

import dataclasses
from typing import Any, ClassVar, NamedTuple, NewType

import jax

from ssl_jax.augment import Views
from ssl_jax.errors import UserError
from ssl_jax.networks.network import Network, Outputs
from ssl_jax.numeric import ema
from ssl_jax.schedule import Schedule

__all__ = [
    "Batch",
    "ClassCount",
    "ImageCount",
    "Method",
    "PyTree",
    "Result",
    "Schedule",
    "Steps",
    "Variables",
    "apply",
    "encode",
    "follow",
    "initialize",
]

PyTree = Any
Batch = dict[str, Any]
Steps = NewType("Steps", int)  # a config may say "10 epochs" or "40000 examples", see `schedule.duration`
# Filled in from the training images when a run is built; a config does not set them.
ImageCount = NewType("ImageCount", int)
ClassCount = NewType("ClassCount", int)


class Variables(NamedTuple):
    """One network, as `apply` takes it and a target keeps it."""

    params: PyTree
    stats: PyTree  # BatchNorm statistics


class Result(NamedTuple):
    """What a loss returns."""

    loss: jax.Array
    state: Any  # the method's, before `after_step`
    metrics: dict[str, jax.Array]  # scalars to log; `uniform_loss`: the loss of a collapsed representation, if known
    features: jax.Array  # [B, D], what `features` would give for the first view: the probe learns from it
    embeddings: jax.Array  # [..., D]: the collapse watch looks at these


class Stats(NamedTuple):
    """The state of methods that remember nothing else."""

    stats: PyTree  # BatchNorm statistics


@dataclasses.dataclass(frozen=True)
class Method:
    """One paper's algorithm on global arrays: it calls no collective, holds no array and knows no device.

    The fields are its hyper-parameters and its networks. A method writes `loss`, and overrides the rest where it must.
    """

    network: Network

    needs_labels: ClassVar[bool] = False
    large_views: ClassVar[int] = 1  # the fewest that a recipe must make
    feature: ClassVar[str] = "backbone"  # what its paper uses: backbone, projection or hidden:K
    # Fields of the state that grow with the images or the keys; their rows are split over the devices.
    memories: ClassVar[tuple[str, ...]] = ()  # [N, ...], a row per image
    queues: ClassVar[tuple[str, ...]] = ()  # [K / B, B, ...], see `memory.push`
    State: ClassVar[Any] = Stats  # a NamedTuple; its tree, shapes and dtypes never change

    def check(self, batch: Batch) -> None:
        """Checks that the hyper-parameters suit each other and the shapes of a batch.

        Raises:
            UserError: if they do not.
        """
        large = batch["views"].large.total
        if large < self.large_views:
            raise UserError(
                f"this method compares {self.large_views} large views of an image and the recipe makes {large}; "
                "choose another augment.recipe"
            )

    def init(self, key: jax.Array, batch: Batch) -> tuple[dict[str, PyTree], Any]:
        """Returns the parameters to train, a dict by role, and the first state."""
        variables, _ = initialize(self.network, key, batch["views"])
        return {"network": variables.params}, self.State(variables.stats)

    def loss(self, params: PyTree, state: Any, batch: Batch, key: jax.Array, step: jax.Array) -> Result:
        """Returns the `Result` for a batch with `views`, `index`, `label` and whatever else its source has."""
        raise TypeError(f"{type(self).__name__} defines no loss")

    def after_step(self, params: PyTree, state: Any, key: jax.Array, step: jax.Array) -> tuple[PyTree, Any]:
        """Returns `params, state` after all that is not gradient descent: moving averages, unit-norm prototypes."""
        return params, state

    def variables(self, params: PyTree, state: Any) -> Variables:
        """Returns the trained network, whose encoder a student or another run may take."""
        return Variables(params["network"], state.stats)

    def represent(self, params: PyTree, state: Any, images: jax.Array, layers: int = 0) -> jax.Array:
        """Returns what normalised images [B, H, W, C] are after some layers of the head, -1: all; [B, D].

        Each row depends on its own image alone.
        """
        return encode(self.network, self.variables(params, state), images, layers)

    def features(self, params: PyTree, state: Any, images: jax.Array) -> jax.Array:
        """Returns the encoder's features [B, D] of normalised images [B, H, W, C]."""
        return self.represent(params, state, images)

    def embeddings(self, params: PyTree, state: Any, images: jax.Array) -> jax.Array:
        """Returns the head's output [B, D] for normalised images [B, H, W, C]; without a head, the features."""
        return self.represent(params, state, images, layers=-1)


def initialize(network: Network, key: jax.Array, views: Views) -> tuple[Variables, Outputs]:
    """Returns a network's first variables, and its outputs for the views, of which the shapes are of use."""
    outputs, variables = network.init_with_output(key, views, train=True)
    return Variables(variables["params"], variables.get("batch_stats", {})), outputs


def apply(
    network: Network,
    variables: Variables,
    views: Views | tuple[jax.Array, ...],
    key: jax.Array | None = None,
    mask: tuple | None = None,
    keep: tuple | None = None,
) -> tuple[Outputs, PyTree]:
    """Runs a network on views with the batch's statistics.

    Args:
        network: what to run.
        variables: its parameters and statistics.
        views: one array [B, V, H, W, C] per group.
        key: switches drop-path and dropout on; None: they are off.
        mask: per group a bool [B, V, S], the patches to replace by the mask token, or None.
        keep: per group an int [B, V, n], the patches to keep, or None.

    Returns:
        The outputs [B, V, ...] and the new statistics.
    """
    rngs = None if key is None else {"drop_path": key}
    tree = {"params": variables.params, "batch_stats": variables.stats}
    outputs, updated = network.apply(tree, views, train=True, mask=mask, keep=keep, rngs=rngs, mutable=["batch_stats"])
    return outputs, updated.get("batch_stats", {})


def encode(network: Network, variables: Variables, images: jax.Array, layers: int = 0) -> jax.Array:
    """Returns the features [B, D] of images [B, H, W, C] in evaluation mode, see `Network.encode`."""
    tree = {"params": variables.params, "batch_stats": variables.stats}
    features: Any = network.apply(tree, images, layers, method="encode")
    return features


def follow(target: Variables, params: PyTree, decay: jax.Array | float) -> Variables:
    """Moves a target's parameters towards a network's: `decay * target + (1 - decay) * params`."""
    return target._replace(params=ema(target.params, params, decay))
