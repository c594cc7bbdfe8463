"""The protocol: a method is a frozen dataclass of pure functions."""

import dataclasses
from typing import Annotated, Any, ClassVar, NamedTuple, NewType

import jax

from ssl_jax.augment import Buckets, Views
from ssl_jax.errors import UserError
from ssl_jax.fields import positive, share
from ssl_jax.networks.network import Network, Outputs
from ssl_jax.numeric import ema
from ssl_jax.schedule import Schedule

__all__ = [
    "Batch",
    "ClassCount",
    "Decay",
    "ImageCount",
    "Method",
    "PyTree",
    "Result",
    "Schedule",
    "Steps",
    "Temperature",
    "Variables",
    "apply",
    "encode",
    "follow",
    "initialize",
    "look",
]

PyTree = Any
Batch = dict[str, Any]
Steps = NewType("Steps", int)  # a config may say "10 epochs" or "40000 examples", see `schedule.duration`
Decay = Annotated[Schedule, share]  # of a moving average: the share of the past
Temperature = Annotated[Schedule, positive]
# Set from the training images when a run is built, not by a config.
ImageCount = NewType("ImageCount", int)
ClassCount = NewType("ClassCount", int)


class Variables(NamedTuple):
    """The parameters and statistics of one network."""

    params: PyTree
    stats: PyTree  # BatchNorm statistics


class Result(NamedTuple):
    """The result of `Method.loss`."""

    loss: jax.Array
    state: Any  # the method's, before `after_step`
    metrics: dict[
        str, jax.Array
    ]  # scalars to log; `uniform_loss`: the loss of a collapsed representation, if it has a closed form
    # [B, D], as `features` returns for the first view, or [B / k, D] of every k-th image; the online probe learns from
    # them.
    features: jax.Array
    embeddings: jax.Array  # [..., D], which the collapse watch checks


class Stats(NamedTuple):
    """The state of methods that only keep statistics."""

    stats: PyTree  # BatchNorm statistics


@dataclasses.dataclass(frozen=True)
class Method:
    """The algorithm of one paper on global arrays, without collectives and without arrays as fields.

    The fields are its hyper-parameters and its networks. A method defines `loss`, and overrides the rest if needed.
    """

    network: Network

    needs_labels: ClassVar[bool] = False
    needs_text: ClassVar[bool] = False  # whether it learns from captions
    large_views: ClassVar[int] = 1  # the least number per image that a recipe must make
    least_batch: ClassVar[int] = 1  # the least number of images in a batch; 2 where they are compared with each other
    mixes_sizes: ClassVar[bool] = True  # whether images of one batch may differ in size, see `augment.Buckets`
    feature: ClassVar[str] = "backbone"  # what its paper evaluates: backbone, projection or hidden:K
    # Fields of the state that grow with the number of images or keys; they are split over the devices by rows.
    memories: ClassVar[tuple[str, ...]] = ()  # [N, ...], a row per image
    queues: ClassVar[tuple[str, ...]] = ()  # [K / B, B, ...], see `memory.push`
    State: ClassVar[Any] = Stats  # a NamedTuple; its tree, shapes and dtypes never change

    def check(self, batch: Batch) -> None:
        """Checks the hyper-parameters, and that they fit the shapes of a batch.

        Raises:
            UserError: if they do not.
        """
        large = batch["views"].large.total
        if large < self.large_views:
            raise UserError(
                f"the method needs {self.large_views} large views of an image, but the recipe makes {large}; "
                "set another augment.recipe"
            )
        if not self.mixes_sizes and any(isinstance(group, Buckets) for group in batch["views"]):
            raise UserError(
                "the method needs images of one size in a batch; set resolution.mode to random, ramp or repeat"
            )

    def init(self, key: jax.Array, batch: Batch) -> tuple[dict[str, PyTree], Any]:
        """Returns the parameters to train, a dict by role, and the first state."""
        variables, _ = initialize(self.network, key, batch["views"])
        return {"network": variables.params}, self.State(variables.stats)

    def loss(self, params: PyTree, state: Any, batch: Batch, key: jax.Array, step: jax.Array) -> Result:
        """Returns the `Result` for a batch with `views`, `index`, `label` and the further fields of its source."""
        raise TypeError(f"{type(self).__name__} defines no loss")

    def after_step(self, params: PyTree, state: Any, key: jax.Array, step: jax.Array) -> tuple[PyTree, Any]:
        """Returns `params, state` after all that is not gradient descent: moving averages, unit-norm prototypes."""
        return params, state

    def variables(self, params: PyTree, state: Any) -> Variables:
        """Returns the trained network, for evaluation, a student or another run."""
        return Variables(params["network"], state.stats)

    def networks(self, params: PyTree, state: Any) -> list[Variables]:
        """Returns all trained networks; most methods have one."""
        return [self.variables(params, state)]

    def represent(self, params: PyTree, state: Any, images: jax.Array, layers: int = 0) -> jax.Array:
        """Returns [B, D] for normalised images [B, H, W, C], after `layers` layers of the projector; -1: all of them.

        Each row depends only on its own image.
        """
        return encode(self.network, self.variables(params, state), images, layers)

    def seen(self, params: PyTree, state: Any, images: jax.Array) -> tuple[Variables, jax.Array]:
        """Returns the network that represents images, and normalised images [B, H, W, C] as it sees them."""
        return self.variables(params, state), images

    def features(self, params: PyTree, state: Any, images: jax.Array) -> jax.Array:
        """Returns the encoder's features [B, D] of normalised images [B, H, W, C]."""
        return self.represent(params, state, images)

    def embeddings(self, params: PyTree, state: Any, images: jax.Array) -> jax.Array:
        """Returns the projections [B, D] of normalised images [B, H, W, C]; without a projector, the features."""
        return self.represent(params, state, images, layers=-1)


def initialize(network: Network, key: jax.Array, views: Views) -> tuple[Variables, Outputs]:
    """Returns the initial variables of a network, and its outputs for the views, whose shapes size a memory."""
    outputs, variables = network.init_with_output(key, views, train=True)
    return Variables(variables["params"], variables.get("batch_stats", {})), outputs


def apply(
    network: Network,
    variables: Variables,
    views: Views | tuple[jax.Array, ...],
    key: jax.Array | None = None,
    mask: tuple | None = None,
    keep: tuple | None = None,
    chosen: tuple | None = None,
) -> tuple[Outputs, PyTree]:
    """Runs a network on views in training mode, with the statistics of the batch.

    Args:
        network: the network.
        variables: its parameters and statistics.
        views: one array [B, V, H, W, C] per group.
        key: a PRNG key for drop-path and dropout; None: they are off.
        mask: per group a bool [B, V, S], the patches to replace by the mask token, or None.
        keep: per group an int [B, V, n], the patches to keep, or None.
        chosen: per group an int [R, n], the patches that the dense heads see, or None, see `Network`.

    Returns:
        The outputs [B, V, ...] and the new statistics.
    """
    rngs = None if key is None else {"drop_path": key}
    tree = {"params": variables.params, "batch_stats": variables.stats}
    options: Any = {"mask": mask, "keep": keep, "chosen": chosen}
    outputs, updated = network.apply(tree, views, train=True, **options, rngs=rngs, mutable=["batch_stats"])
    return outputs, updated.get("batch_stats", {})


def encode(network: Network, variables: Variables, images: jax.Array, layers: int = 0) -> jax.Array:
    """Returns the features [B, D] of images [B, H, W, C] in evaluation mode, see `Network.encode`."""
    return look(network, variables, "encode", images, layers)


def look(network: Network, variables: Variables, function: str, *inputs: Any) -> Any:
    """Returns what a function of a network, such as "encoding", makes of its inputs in evaluation mode."""
    tree = {"params": variables.params, "batch_stats": variables.stats}
    return network.apply(tree, *inputs, method=function)


def follow(target: Variables, params: PyTree, decay: jax.Array | float) -> Variables:
    """Returns a target whose parameters are `decay * target + (1 - decay) * params`."""
    return target._replace(params=ema(target.params, params, decay))
