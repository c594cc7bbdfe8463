"""A teacher: the frozen encoder of a run that has been trained, as its workdir holds it."""

import dataclasses
import functools
from collections.abc import Callable

import jax

from ssl_jax.method import Variables, encode
from ssl_jax.networks import Network


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A frozen encoder; a config names it by the workdir of its run.

    A method puts `variables` into its first state, so its own checkpoints hold them: a run that is resumed goes on with
    the teacher it began with, even if that one has been trained further meanwhile.
    """

    network: Network
    read: Callable[[], Variables]  # reads the network that the run trained, on the host
    convert: Callable[[jax.Array], jax.Array]  # from what the student sees to the teacher's colours and normalisation

    @functools.cached_property
    def variables(self) -> Variables:
        """The trained network, read once.

        Raises:
            UserError: if the run trained no single network.
        """
        return self.read()

    def features(self, variables: Variables, images: jax.Array) -> jax.Array:
        """Returns the encoder's features [B, D] of images [B, H, W, C], normalised as the student sees them."""
        return encode(self.network, variables, self.convert(images))
