"""What a sheet of pictures is, and who has it."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ssl_jax.method import Batch, PyTree
from ssl_jax.run import Run


class Sheet(NamedTuple):
    """Pictures of what a network makes of images, with an image in each row."""

    needs: str  # what run and images must have, completes "it needs"
    applies: Callable[[Run, Collection[str]], bool]  # whether they have that, given the fields of the images' source
    # From the run, parameters and state of the method, and a batch to a tree of arrays; compiled for all devices. The
    # batch has all fields of the source, but `image` float [N, H, W, 3] and `mask` bool [N, H, W] as evaluation sees
    # them.
    compute: Callable[[Run, PyTree, Any, Batch], Any]
    draw: Callable[[np.ndarray, Any], Image.Image]  # from the images, uint8 [N, H, W, 3], and these arrays on the host
