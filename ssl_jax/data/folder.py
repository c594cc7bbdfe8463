"""Folders of image files, labelled by sub-folder or not at all."""

import dataclasses
import itertools
import os
import pathlib
import warnings
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from ssl_jax.data import files, shared
from ssl_jax.data.decoding import UnreadableError, attempt, example_of, header_of
from ssl_jax.data.field import image_fields, shrink
from ssl_jax.data.layout import below, classes_of, find_layout
from ssl_jax.data.reading import WHOLE, Reading
from ssl_jax.data.shared import SharedExamples
from ssl_jax.data.survey import NEW, STRAY, Survey, examples
from ssl_jax.errors import UserError
from ssl_jax.words import number_of

CHECKED = 10_000  # a folder with at most this many files is decoded once at the start, which takes seconds
OPAQUE = (".jpg", ".jpeg", ".jpe", ".jfif")  # suffixes of files that cannot have an alpha channel


class FolderSource:
    """Image files with random access; those whose content cannot be decoded are left out.

    Up to `CHECKED` files are all decoded at the start. Checking millions would take much of an epoch, so in larger
    folders an unreadable file is noticed when it is read, and replaced by the next readable one. In both cases the
    image at position i depends only on the files, so that runs repeat and resume exactly. What was decoded is kept if
    all of it fits `reading.host_bytes`, in memory that worker processes share.

    Args:
        name: the name of the source in messages.
        root: the folder that the names are relative to.
        names: of the image files.
        sizes: of the files in bytes.
        labels: one per file; -1 if unknown.
        classes: the names of the labels; None without labels.
        fields: ("mask",) adds masks, see `image.decode_with_mask`.
        reading: how images are read.
        survey: what is known already.

    Raises:
        UserError: if no file can be decoded, or the disk fails.
    """

    def __init__(
        self,
        name: str,
        root: str,
        names: Sequence[str],
        sizes: Sequence[int],
        labels: Sequence[int],
        classes: tuple[str, ...] | None,
        fields: Collection[str] = (),
        reading: Reading = WHOLE,
        survey: Survey = NEW,
    ):
        self.name, self.root, self.names, self.bytes = name, root, list(names), list(sizes)
        self.labels, self.classes, self.reading, self.survey = list(labels), classes, reading, survey
        self.fields = image_fields(fields)
        self.total, self.version, self.warned = len(self), None, False
        self.canvas: int | None = None  # pixels of the longer side that are enough
        self.kept: SharedExamples | None = None
        self.measure()
        self.canvas = reading.canvas(self.survey.largest)
        if self.fits():
            self.kept = SharedExamples(len(self))
        if len(self) <= CHECKED:
            self.leave_out(attempt(self.check, range(len(self)), f"reading the images of {name}"))
        else:
            self[0]  # raises if no file can be decoded
        self.survey = dataclasses.replace(self.survey, counts=self.count())

    @property
    def listing(self) -> list[tuple[str, int]]:
        """The name and the bytes of each file, by which a run knows its images."""
        return list(zip(self.names, self.bytes, strict=True))

    @property
    def files(self) -> list[str]:
        """The paths of the files."""
        return [os.path.join(self.root, name) for name in self.names]

    def measure(self) -> None:
        """Reads the sizes of the images: of all, if they are few, of which those with a bad header are left out."""
        whole = len(self) <= CHECKED
        index = range(len(self)) if whole else np.linspace(0, len(self) - 1, CHECKED, dtype=int).tolist()
        found = attempt(lambda i: header_of(self.path(i), self.reading), index, f"looking at {self.name}")
        sizes = np.array([size for size in found if not isinstance(size, UnreadableError)]).reshape(-1, 2)
        self.survey = dataclasses.replace(self.survey, sizes=sizes)
        if whole:
            self.leave_out(found)

    def leave_out(self, found: Sequence[Any]) -> None:
        """Drops the files at whose positions an error was found.

        Raises:
            UserError: if nothing is left.
        """
        left_out = {why: list(names) for why, names in self.survey.left_out.items()}
        for name, result in zip(self.names, found, strict=True):
            if isinstance(result, UnreadableError):
                place = os.path.join(os.path.basename(self.root), name)
                left_out.setdefault(result.why, []).append(f"{place} ({result})")
        good = [i for i, result in enumerate(found) if not isinstance(result, UnreadableError)]
        if not good:
            raise self.hopeless("; ".join(f"{why}: {examples(why, left_out[why])}" for why in left_out))
        self.names, self.bytes = [self.names[i] for i in good], [self.bytes[i] for i in good]
        self.labels = [self.labels[i] for i in good]
        if self.kept is not None:
            self.kept.select(good)
        sizes = self.survey.sizes if len(self.survey.sizes) < len(found) else self.survey.sizes[good]
        self.survey = dataclasses.replace(self.survey, left_out=left_out, sizes=sizes)

    def hopeless(self, faults: str) -> UserError:
        return UserError(f"of {number_of(self.total, 'image')} of {self.name} none can be read; {faults}")

    def fits(self) -> bool:
        """Returns whether all images, decoded and shrunk, take at most `reading.host_bytes`."""
        if self.canvas is None or not shared.AVAILABLE:
            return False
        area = np.full(1, self.canvas**2)
        if len(self.survey.sizes) == len(self):
            longer = self.survey.sizes.max(axis=1)
            area = self.survey.sizes.prod(axis=1) * np.minimum(1, self.canvas / longer) ** 2
        return 4 * area.mean() * len(self) <= self.reading.host_bytes

    def count(self) -> np.ndarray | None:
        """Returns the number of images of each class, int [classes]."""
        if self.classes is None:
            return None
        labels = np.asarray(self.labels)
        return np.bincount(labels[labels >= 0], minlength=len(self.classes))

    def path(self, i: int) -> str:
        return os.path.join(self.root, self.names[i])

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return self.readable(i)[1]

    def readable(self, i: int) -> tuple[int, dict[str, Any]]:
        """Returns the first position from i on whose file can be decoded, and its example."""
        first = None
        for j in itertools.chain(range(i, len(self)), range(i)):
            try:
                return j, self.decoded(j) | {"label": self.labels[j]}
            except UnreadableError as error:
                first = first or error
                if not self.warned:
                    self.warned = True
                    said = f"{self.path(j)} is {error.why} ({error}); the next readable image stands in for such files"
                    warnings.warn(said, stacklevel=2)
        raise self.hopeless(f"the first, {self.names[i]}, is {first.why} ({first})")

    def check(self, i: int) -> None:
        """Raises `UnreadableError` if the file at position i cannot be decoded."""
        self.decoded(i)

    def decoded(self, i: int) -> dict[str, np.ndarray]:
        """Returns the pixels of the file at position i.

        Raises:
            UnreadableError: if its content cannot be decoded.
        """
        if self.kept is not None and (kept := self.kept[i]) is not None:
            return kept
        example = example_of(self.path(i), "mask" in self.fields, self.canvas, self.reading)
        if self.kept is not None:
            example = {name: shrink(pixels, self.canvas) for name, pixels in example.items()}
            self.kept.add(i, example)
        return example


def open_folder(path: str, split: str, fields: Collection[str] = (), reading: Reading = WHOLE) -> FolderSource | None:
    """Opens a folder of images; `layout.find_layout` says what its sub-folders mean.

    Args:
        path: the folder.
        split: "train" or "test".
        fields: ("mask",) reads alpha channels as masks; an image without one has a mask that is set everywhere.
        reading: how images are read.

    Returns:
        The source, or None if there is no test split.

    Raises:
        UserError: if the folder does not exist, has no readable image or, with "mask", only images that cannot have an
            alpha channel; or if the test split has a class that the training split lacks.
    """
    root = str(pathlib.Path(path).expanduser())
    if not os.path.isdir(root):
        raise UserError(f"there is no folder {root!r}; name a folder of images, as in folder:/photos")
    found = files.scan(root)
    if not found.names:
        raise UserError(nothing(root, found))
    part = split_of(found, split)
    if part is None:
        return None
    if "mask" in fields and split == "train" and all(name.lower().endswith(OPAQUE) for name in part.names):
        raise UserError(
            f"all images in {root!r} are jpg, which cannot have a mask; save them as png with an alpha channel"
        )
    sizes = dict(zip(found.names, found.sizes, strict=True))
    return FolderSource(
        f"folder:{root}",
        os.path.join(root, part.prefix.rstrip(os.sep)).rstrip(os.sep) or os.sep,
        part.names,
        [sizes[part.prefix + name] for name in part.names],
        labels_of(part.names, part.classes, root),
        part.classes,
        fields,
        reading,
        Survey(part.prefix, left_out=part.left_out, notes=part.notes),
    )


class Part(NamedTuple):
    """The image files of a split."""

    prefix: str  # of the names
    names: list[str]
    classes: tuple[str, ...] | None
    left_out: dict[str, list[str]]
    notes: tuple[str, ...]


def split_of(found: files.Found, split: str) -> Part | None:
    """Returns the files of a split, with the classes of the training split; None if there is no such split."""
    layout = find_layout(found.names, found.folders)

    def training(names: Sequence[str]) -> list[str]:
        return [name for name in below(names, layout.train) if not (name + os.sep).startswith(layout.apart)]

    trained = training(found.names)
    classes = classes_of(trained, training(found.folders))
    if split == "train":
        left_out = found.left_out | ({STRAY: list(classes.strays)} if classes.strays else {})
        names = sorted(set(trained) - set(classes.strays))
        return Part(layout.train, names, classes.names, left_out, (*layout.notes, *classes.notes))
    if layout.test is None:
        return None
    names = below(found.names, layout.test)
    tested = classes_of(names, known=classes.names)
    left_out = {STRAY: list(tested.strays)} if tested.strays else {}
    known = classes.names if tested.names else None
    return Part(layout.test, [name for name in names if name not in tested.strays], known, left_out, tested.notes)


def labels_of(names: Sequence[str], classes: tuple[str, ...] | None, root: str) -> list[int]:
    """Returns the class of each file, by its sub-folder; -1 without classes."""
    if classes is None:
        return [-1] * len(names)
    heads = [name.split(os.sep, 1)[0] for name in names]
    if unknown := sorted(set(heads) - set(classes)):
        raise UserError(
            f"the test split of {root!r} has classes that the training split lacks: {', '.join(unknown[:5])}; "
            "sort them into the training split, too, or set evaluate.labels=ignored"
        )
    label = {name: i for i, name in enumerate(classes)}
    return [label[head] for head in heads]


def nothing(root: str, found: files.Found) -> str:
    """Returns the error for a folder without images, with what it has."""
    there = [f"{why}: {examples(why, names)}" for why, names in found.left_out.items()]
    has = f", only {'; '.join(there)}" if there else ""
    return f"the folder {root!r} has no images at any depth{has}; name another folder"
