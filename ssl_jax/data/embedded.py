"""The image sets that ship with the package."""

import pathlib

import numpy as np

from ssl_jax.errors import UserError, nearest

HERE = pathlib.Path(__file__).parent


class EmbeddedSource:
    """A grey image set from an archive beside this file, wholly in memory.

    Args:
        name: an archive's name without suffix, such as `fashion_mnist`.
        split: "train" or "test".
        masks: whether images come with a mask of what is not black.

    Raises:
        UserError: there is no such archive.
    """

    def __init__(self, name: str, split: str = "train", masks: bool = False):
        names = [path.stem for path in HERE.glob("*.npz")]
        if name not in names:
            raise UserError(f"There is no embedded set {name!r}; {nearest(name, names)}")
        with np.load(HERE / f"{name}.npz") as arrays:
            self.images = arrays[f"{split}_images"]
            self.labels = arrays[f"{split}_labels"]
            self.classes = tuple(arrays["classes"].tolist())
        self.name, self.planes = f"embedded:{name}", 4 if masks else 3

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        image = np.repeat(self.images[i][:, :, None], self.planes, axis=2)
        image[:, :, 3:] = np.where(image[:, :, 3:] > 0, 255, 0)
        return image, int(self.labels[i])
