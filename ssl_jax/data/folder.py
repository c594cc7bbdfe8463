"""Folders of image files, labelled by sub-folder or not at all."""

import itertools
import os
import pathlib
import warnings
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ssl_jax.data.field import image_fields
from ssl_jax.data.image import decode, decode_with_mask
from ssl_jax.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
TEST_FOLDERS = ("test", "val")
CHECKED = 10_000  # a folder with at most this many files is decoded once at the start, which takes seconds


class FolderSource:
    """Image files with random access; unreadable files are skipped.

    Up to `CHECKED` files are all checked at the start. Checking millions would take much of an epoch, so in larger
    folders an unreadable file is noticed when it is read, and replaced by the next readable one. In both cases the
    image at position i depends only on the files, so that runs repeat and resume exactly.

    Args:
        name: the name of the source in messages.
        files: the image files.
        labels: one per file; -1 if unknown.
        classes: the names of the labels; None without labels.
        fields: ("mask",) adds masks, see `image.decode_with_mask`.

    Raises:
        UserError: if no file can be read.
    """

    def __init__(
        self,
        name: str,
        files: list[str],
        labels: list[int],
        classes: tuple[str, ...] | None,
        fields: Collection[str] = (),
    ):
        self.name, self.files, self.labels, self.classes = name, files, labels, classes
        self.fields = image_fields(fields)
        self.warned = False
        if len(files) <= CHECKED:
            self.leave_out_unreadable()
        self[0]  # raises if no file can be read

    def leave_out_unreadable(self) -> None:
        """Drops the files that cannot be read, unless none can."""
        with ThreadPoolExecutor() as pool:
            readable = list(pool.map(lambda file: self.read(file) is not None, self.files))
        bad = [file for file, good in zip(self.files, readable, strict=True) if not good]
        if 0 < len(bad) < len(self.files):
            names = ", ".join(bad[:5]) + (", ..." if len(bad) > 5 else "")
            self.warn(f"{len(bad)} of {len(self.files)} images are unreadable and skipped: {names}")
            kept = [
                pair for pair, good in zip(zip(self.files, self.labels, strict=True), readable, strict=True) if good
            ]
            self.files, self.labels = map(list, zip(*kept, strict=True))

    def warn(self, message: str) -> None:
        """Warns once."""
        if not self.warned:
            self.warned = True
            warnings.warn(f"{self.name}: {message}", stacklevel=2)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return self.readable(i)[1]

    def readable(self, i: int) -> tuple[str, dict[str, Any]]:
        """Returns the first file from position i on that can be read, and its example."""
        for j in itertools.chain(range(i, len(self)), range(i)):
            example = self.read(self.files[j])
            if example is not None:
                if j != i:
                    self.warn(f"{self.files[i]} is unreadable; such files are replaced by the next readable image")
                return self.files[j], example | {"label": self.labels[j]}
        raise UserError(f"none of the {len(self)} images of {self.name} can be read; the first is {self.files[0]}")

    def read(self, file: str) -> dict[str, np.ndarray] | None:
        """Returns the fields of a file, or None if it is unreadable."""
        try:
            data = pathlib.Path(file).read_bytes()
            if "mask" not in self.fields:
                return {"image": decode(data)}
            image, mask = decode_with_mask(data)
            return {"image": image, "mask": mask}
        except Exception:  # Pillow raises many types for damaged files
            return None


def open_folder(path: str, split: str, fields: Collection[str] = ()) -> FolderSource | None:
    """Opens a folder of jpg, png and webp images.

    If the folder has a sub-folder `train`, that is the training split, and `test` or `val`, if it exists, is the test
    split. The sub-folders of a split, if there are at least two, are its classes. Without `train`, all images below
    the path form one unlabelled training split.

    Args:
        path: the folder.
        split: "train" or "test".
        fields: ("mask",) reads alpha channels as masks; an image without one has a mask that is set everywhere.

    Returns:
        The source, or None if there is no test split.

    Raises:
        UserError: if the folder does not exist, has no readable image or, with "mask", only images that cannot have an
            alpha channel; or if the test split has a class that `train` lacks.
    """
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        raise UserError(f"there is no folder {str(root)!r}; set data.source=folder:/path to a folder of images")
    train = root / "train"
    if split == "test":
        tests = [root / name for name in TEST_FOLDERS if train.is_dir() and (root / name).is_dir()]
        if not tests:
            return None
        folder = next((test for test in tests if classes_of(test)), tests[0])  # ImageNet's test images have no labels
    else:
        folder = train if train.is_dir() else root
    files = images_below(folder)
    if not files:
        raise UserError(
            f"the folder {str(folder)!r} has no images ({', '.join(SUFFIXES)}) at any depth; set data.source to another"
        )
    if "mask" in fields and split == "train" and all(file.lower().endswith((".jpg", ".jpeg")) for file in files):
        raise UserError(
            f"all images in {str(folder)!r} are jpg, which cannot have a mask; save them as png with an alpha channel"
        )
    classes = classes_of(train) if train.is_dir() and classes_of(folder) else None
    return FolderSource(f"folder:{root}", files, labels_of(files, folder, classes), classes, fields)


def images_below(folder: pathlib.Path) -> list[str]:
    """Returns all image files below a folder, in the same order on every machine."""
    files: list[str] = []
    seen = set()  # links are followed, and may form cycles
    for at, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(at)
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        if real not in seen:
            files += [os.path.join(at, name) for name in names if is_image(name)]
        seen.add(real)
    return sorted(files)


def is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def classes_of(folder: pathlib.Path) -> tuple[str, ...] | None:
    """Returns the names of the sub-folders if they are classes: at least two, with no image beside them. Else None."""
    with os.scandir(folder) as entries:
        names = []
        for entry in entries:
            if is_image(entry.name):
                return None
            if entry.is_dir() and not entry.name.startswith("."):
                names.append(entry.name)
    return tuple(sorted(names)) if len(names) > 1 else None


def labels_of(files: list[str], folder: pathlib.Path, classes: tuple[str, ...] | None) -> list[int]:
    """Returns the class of each file, by its sub-folder; -1 without classes."""
    if classes is None:
        return [-1] * len(files)
    start = len(str(folder)) + 1
    names = [file[start:].split(os.sep, 1)[0] for file in files]
    if unknown := sorted(set(names) - set(classes)):
        raise UserError(f"{folder} has classes that the training split lacks: {', '.join(unknown[:5])}.")
    label = {name: i for i, name in enumerate(classes)}
    return [label[name] for name in names]
