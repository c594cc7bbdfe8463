"""Folders of image files, labelled by sub-folder or not at all."""

import itertools
import os
import pathlib
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ssl_jax.data.image import decode
from ssl_jax.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
TEST_FOLDERS = ("test", "val")
CHECKED = 10_000  # so many files are decoded once at the start, which takes seconds


class FolderSource:
    """Image files with random access; unreadable ones are left out.

    Up to `CHECKED` files are all checked at the start. Checking millions would delay every start by much of an epoch,
    so in larger folders an unreadable file is noticed when its turn comes, and the next readable one stands in for
    it. Either way what position i shows depends on the files alone, so that runs repeat and resume exactly.

    Args:
        name: what messages call the source.
        files: the image files.
        labels: one for each file; -1 where unknown.
        classes: their names; None without labels.
        masks: whether to read masks, see `image.decode`.

    Raises:
        UserError: no file can be read.
    """

    def __init__(
        self, name: str, files: list[str], labels: list[int], classes: tuple[str, ...] | None, masks: bool = False
    ):
        self.name, self.files, self.labels, self.classes = name, files, labels, classes
        self.planes = 4 if masks else 3
        self.warned = False
        if len(files) <= CHECKED:
            self._leave_out_unreadable()
        self[0]  # raises when there is nothing to read

    def _leave_out_unreadable(self) -> None:
        with ThreadPoolExecutor() as pool:
            readable = list(pool.map(lambda file: self._read(file) is not None, self.files))
        bad = [file for file, good in zip(self.files, readable, strict=True) if not good]
        if 0 < len(bad) < len(self.files):
            names = ", ".join(bad[:5]) + (", ..." if len(bad) > 5 else "")
            self._warn(f"{len(bad)} of {len(self.files)} images are unreadable and left out: {names}")
            kept = [
                pair for pair, good in zip(zip(self.files, self.labels, strict=True), readable, strict=True) if good
            ]
            self.files, self.labels = map(list, zip(*kept, strict=True))

    def _warn(self, message: str) -> None:
        if not self.warned:
            self.warned = True
            warnings.warn(f"{self.name}: {message}", stacklevel=2)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        for j in itertools.chain(range(i, len(self)), range(i)):
            image = self._read(self.files[j])
            if image is not None:
                if j != i:
                    self._warn(
                        f"{self.files[i]} is unreadable; it and others like it give way to the next readable image"
                    )
                return image, self.labels[j]
        raise UserError(f"None of the {len(self)} images of {self.name} can be read; the first is {self.files[0]}.")

    def _read(self, file: str) -> np.ndarray | None:
        try:
            return decode(pathlib.Path(file).read_bytes(), masks=self.planes == 4)
        except Exception:  # damaged files make Pillow raise almost anything
            return None


def open_folder(path: str, split: str, masks: bool = False) -> FolderSource | None:
    """Opens a folder of jpg, png and webp images.

    With a sub-folder `train`, that is the training split and `test` or `val`, where there is one, the test split. Their
    own sub-folders, two or more, are the classes. Without `train` all images below the path form an unlabelled
    training split, whatever the names of the folders they lie in.

    Args:
        path: of the folder.
        split: "train" or "test".
        masks: whether their alpha channels are masks; an image without one is all that matters.

    Returns:
        The source; None where there is no test split.

    Raises:
        UserError: no such folder, no images, none readable or able to hold a mask that is asked for, or a class in the
            test split that is not in `train`.
    """
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        raise UserError(f"There is no folder {str(root)!r}; give folder:/path an existing folder of images.")
    train = root / "train"
    if split == "test":
        tests = [root / name for name in TEST_FOLDERS if train.is_dir() and (root / name).is_dir()]
        if not tests:
            return None
        folder = next((test for test in tests if _classes(test)), tests[0])  # ImageNet's test images have no labels
    else:
        folder = train if train.is_dir() else root
    files = _images(folder)
    if not files:
        raise UserError(f"There are no images ({', '.join(SUFFIXES)}) below the folder {str(folder)!r}.")
    if masks and split == "train" and all(file.lower().endswith((".jpg", ".jpeg")) for file in files):
        raise UserError(
            f"A jpg holds no mask, and {str(folder)!r} no other images; save them as png with an alpha channel."
        )
    classes = _classes(train) if train.is_dir() and _classes(folder) else None
    return FolderSource(f"folder:{root}", files, _labels(files, folder, classes), classes, masks)


def _images(folder: pathlib.Path) -> list[str]:
    """All image files below a folder, in an order that is the same on every machine."""
    files: list[str] = []
    seen = set()  # links are followed, and some lead back
    for at, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(at)
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        if real not in seen:
            files += [os.path.join(at, name) for name in names if _is_image(name)]
        seen.add(real)
    return sorted(files)


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _classes(folder: pathlib.Path) -> tuple[str, ...] | None:
    """The sub-folders' names, if they tell images apart: two or more, and no image beside them."""
    with os.scandir(folder) as entries:
        names = []
        for entry in entries:
            if _is_image(entry.name):
                return None
            if entry.is_dir() and not entry.name.startswith("."):
                names.append(entry.name)
    return tuple(sorted(names)) if len(names) > 1 else None


def _labels(files: list[str], folder: pathlib.Path, classes: tuple[str, ...] | None) -> list[int]:
    if classes is None:
        return [-1] * len(files)
    start = len(str(folder)) + 1
    names = [file[start:].split(os.sep, 1)[0] for file in files]
    if unknown := sorted(set(names) - set(classes)):
        raise UserError(f"{folder} has classes that the training split lacks: {', '.join(unknown[:5])}.")
    label = {name: i for i, name in enumerate(classes)}
    return [label[name] for name in names]
