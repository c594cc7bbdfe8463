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
CHECKED = 10_000  # a folder of at most this many files is decoded once at the start, which takes seconds


class FolderSource:
    """Image files with random access; unreadable ones are left out.

    Up to `CHECKED` files are all checked at the start. Checking millions would delay every start by much of an epoch,
    so in larger folders an unreadable file is noticed when its turn comes, and the next readable one stands in for
    it. Either way what position i shows depends on the files alone, so that runs repeat and resume exactly.

    Args:
        name: what messages call the source.
        files: the image files.
        labels: one for each file; -1 if unknown.
        classes: names of the labels; None without labels.
        fields: "mask" for masks, see `image.decode_with_mask`.

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
        self[0]  # raises when there is nothing to read

    def leave_out_unreadable(self) -> None:
        """Drops the files that cannot be read, unless that is all of them."""
        with ThreadPoolExecutor() as pool:
            readable = list(pool.map(lambda file: self.read(file) is not None, self.files))
        bad = [file for file, good in zip(self.files, readable, strict=True) if not good]
        if 0 < len(bad) < len(self.files):
            names = ", ".join(bad[:5]) + (", ..." if len(bad) > 5 else "")
            self.warn(f"{len(bad)} of {len(self.files)} images are unreadable and left out: {names}")
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
        for j in itertools.chain(range(i, len(self)), range(i)):
            example = self.read(self.files[j])
            if example is not None:
                if j != i:
                    self.warn(f"{self.files[i]} is unreadable; the next readable image takes the place of such files")
                return example | {"label": self.labels[j]}
        raise UserError(f"none of the {len(self)} images of {self.name} can be read; the first is {self.files[0]}")

    def read(self, file: str) -> dict[str, np.ndarray] | None:
        """Returns the fields that a file holds, None if it is unreadable."""
        try:
            data = pathlib.Path(file).read_bytes()
            if "mask" not in self.fields:
                return {"image": decode(data)}
            image, mask = decode_with_mask(data)
            return {"image": image, "mask": mask}
        except Exception:  # damaged files make Pillow raise almost anything
            return None


def open_folder(path: str, split: str, fields: Collection[str] = ()) -> FolderSource | None:
    """Opens a folder of jpg, png and webp images.

    With a sub-folder `train`, that is the training split and `test` or `val`, where there is one, the test split. Their
    own sub-folders, two or more, are the classes. Without `train` all images below the path form an unlabelled
    training split, whatever the names of their folders.

    Args:
        path: of the folder.
        split: "train" or "test".
        fields: "mask" if alpha channels are masks; the mask of an image without one is all of it.

    Returns:
        The source; None if there is no test split.

    Raises:
        UserError: if there is no such folder, no image in it, none that is readable or can hold a mask that is asked
            for, or if the test split has a class that is not in `train`.
    """
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        raise UserError(f"there is no folder {str(root)!r}; give folder:/path an existing folder of images")
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
        raise UserError(f"there are no images ({', '.join(SUFFIXES)}) below the folder {str(folder)!r}")
    if "mask" in fields and split == "train" and all(file.lower().endswith((".jpg", ".jpeg")) for file in files):
        raise UserError(
            f"a jpg has no mask, and all images in {str(folder)!r} are jpg; save them as png with an alpha channel"
        )
    classes = classes_of(train) if train.is_dir() and classes_of(folder) else None
    return FolderSource(f"folder:{root}", files, labels_of(files, folder, classes), classes, fields)


def images_below(folder: pathlib.Path) -> list[str]:
    """Returns all image files below a folder, in an order that is the same on every machine."""
    files: list[str] = []
    seen = set()  # links are followed, and some lead back
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
    """Returns the sub-folders' names if they are classes: two or more, and no image beside them; else None."""
    with os.scandir(folder) as entries:
        names = []
        for entry in entries:
            if is_image(entry.name):
                return None
            if entry.is_dir() and not entry.name.startswith("."):
                names.append(entry.name)
    return tuple(sorted(names)) if len(names) > 1 else None


def labels_of(files: list[str], folder: pathlib.Path, classes: tuple[str, ...] | None) -> list[int]:
    """Returns the class of each file by the sub-folder it is in, -1 without classes."""
    if classes is None:
        return [-1] * len(files)
    start = len(str(folder)) + 1
    names = [file[start:].split(os.sep, 1)[0] for file in files]
    if unknown := sorted(set(names) - set(classes)):
        raise UserError(f"{folder} has classes that the training split lacks: {', '.join(unknown[:5])}.")
    label = {name: i for i, name in enumerate(classes)}
    return [label[name] for name in names]
