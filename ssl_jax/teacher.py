"""A teacher: the frozen encoder of another run."""

import dataclasses
import functools
from collections.abc import Callable

import jax

from ssl_jax.method import Variables, encode
from ssl_jax.networks import Network


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A frozen encoder, which a config names by the workdir of its run.

    A method copies `variables` into its initial state, so that its own checkpoints contain them: a resumed run keeps
    the teacher it began with, even if the teacher's run has been trained further.
    """

    network: Network
    read: Callable[[], Variables]  # reads the network that the run trained, on the host
    convert: Callable[[jax.Array], jax.Array]  # from the student's colour space and normalisation to the teacher's

    @functools.cached_property
    def variables(self) -> Variables:
        """The trained network, read once.

        Raises:
            UserError: if the run did not train a single network.
        """
        return self.read()

    def features(self, variables: Variables, images: jax.Array) -> jax.Array:
        """Returns the encoder's features [B, D] of images [B, H, W, C], normalised as the student sees them."""
        return encode(self.network, variables, self.convert(images))
