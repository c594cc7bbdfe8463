"""How much of an image is read, and how long it is kept."""

from typing import NamedTuple

from ssl_jax.data.image import MAX_PIXELS


class Reading(NamedTuple):
    """What a run needs of images."""

    wanted: int | None = None  # pixels of the longer side that views are made from; None: all of an image
    least: int = 0  # the canvas is not smaller, even if all images are
    max_pixels: int = MAX_PIXELS  # larger images are left out
    host_bytes: int = 0  # a set that takes no more is kept after it was decoded

    def canvas(self, largest: int | None) -> int | None:
        """Returns the side in pixels of the square that images are fitted into; None: they are not.

        Args:
            largest: pixels of the longest side in the set; None: unknown.
        """
        if self.wanted is None or largest is None:
            return self.wanted
        return min(self.wanted, max(self.least, largest))


WHOLE = Reading()  # images as they are
