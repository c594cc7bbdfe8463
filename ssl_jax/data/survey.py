"""What a run was given, in a few lines."""

import collections
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ssl_jax.data.files import OTHER
from ssl_jax.words import number_of

STRAY = "beside class folders"
SHOWN = 3  # names of a reason
LISTED = 10  # classes of which each is counted
ADVICE = dict.fromkeys((".heic", ".heif"), "pip install pillow-heif")  # what reads a further suffix


@dataclasses.dataclass(frozen=True)
class Survey:
    """What was found when a split was opened."""

    place: str = ""  # of the split in the source
    sizes: np.ndarray | None = None  # int [M, 2], width and height of images whose headers were read
    left_out: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)  # why -> names
    notes: tuple[str, ...] = ()  # what the user may not expect
    counts: np.ndarray | None = None  # int [classes], images of each class

    @property
    def largest(self) -> int | None:
        """The longest side in pixels; None: unknown."""
        return None if self.sizes is None or not len(self.sizes) else int(self.sizes.max())

    @property
    def reason(self) -> str:
        """The notes in brackets, to follow a word of what a split lacks; empty if there are none."""
        return f" ({'; '.join(self.notes)})" if self.notes else ""


NEW = Survey()


def describe(source: Any, test: Any, labels: str = "auto", canvas: int | None = None) -> list[str]:
    """Returns lines that say what a run trains on, what it is evaluated on, what was left out, and what may surprise.

    Args:
        source: the training images.
        test: the images to evaluate on, or None.
        labels: `evaluate.labels`.
        canvas: pixels of the side that images are fitted into.
    """
    where = source.name + place(source.survey)
    said = [f"{number_of(len(source), 'image')}{classes(source)} from {where}{pixels(source.survey, canvas)}"]
    said.append(evaluated(source, test, labels))
    return [printable(line) for line in said] + remarks([source, test] if test else [source])


def remarks(sources: Sequence[Any]) -> list[str]:
    """Returns lines that say what of the splits of a source was left out, and what may surprise, training first."""
    first, given = sources[0], [source.survey for source in sources]
    reasons = dict.fromkeys(why for survey in given for why in survey.left_out)
    parts = {why: list(dict.fromkeys(n for one in given for n in one.left_out.get(why, ()))) for why in reasons}
    said = [left_out(why, names) for why, names in parts.items()]
    if first.survey.counts is not None:
        bare = [name for name, images in zip(first.classes, first.survey.counts, strict=True) if not images]
        said += [f"note: no image of {', '.join(bare)} can be read"] * bool(bare)
    said += [f"note: {note}" for note in dict.fromkeys(note for survey in given for note in survey.notes)]
    return [printable(line) for line in said]


def left_out(why: str, names: Sequence[str]) -> str:
    """Returns a line that counts what was left out for a reason, and shows some of it."""
    return printable(f"left out {len(names):,} ({why}): {examples(why, names)}")


def classes(source: Any) -> str:
    """Returns how many classes there are, and how many images each has."""
    if source.classes is None:
        return " without labels"
    number, counts = len(source.classes), source.survey.counts
    said = f" of {number_of(number, 'class')}"
    if counts is None:
        return said
    if number <= LISTED and not np.ptp(counts):
        return f"{said} ({', '.join(source.classes)}; {counts[0]:,} each)"
    if number <= LISTED:
        return f"{said} ({', '.join(f'{name} {n:,}' for name, n in zip(source.classes, counts, strict=True))})"
    return f"{said} ({counts.min():,} to {counts.max():,} images each)"


def place(survey: Survey) -> str:
    return f" ({survey.place})" if survey.place else ""


def pixels(survey: Survey, canvas: int | None) -> str:
    """Returns the range of sizes."""
    if survey.largest is None:
        return ""
    area = survey.sizes.prod(axis=1)
    low, high = ("{} x {}".format(*survey.sizes[pick(area)]) for pick in (np.argmin, np.argmax))
    shrunk = f", read at up to {canvas}" if canvas and canvas < survey.largest else ""
    return f", {low} pixels{shrunk}" if low == high else f", {low} to {high} pixels{shrunk}"


def evaluated(source: Any, test: Any, labels: str) -> str:
    """Returns what the run is evaluated on."""
    if test is not None:
        how = [*["k-NN and linear accuracy"] * bool(test.classes), *["matches of captions"] * ("text" in test.fields)]
        return f"evaluated on {number_of(len(test), 'test image')}{place(test.survey)}: {' and '.join(how)}"
    if labels == "ignored":
        return "evaluated on nothing: evaluate.labels is ignored"
    if source.classes is None:
        return "evaluated on nothing: there are no labels, which are the folders in train/CLASS/ and test/CLASS/"
    return (
        "evaluated on nothing: there is no labelled test split; --config.data.split=0.1 holds out a tenth of each "
        "class and evaluates on it"
    )


def examples(why: str, names: Sequence[str]) -> str:
    """Returns the first names that were left out for a reason; of other kinds, how many each suffix has."""
    if why != OTHER:
        return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    kinds = collections.Counter(os.path.splitext(name)[1].lower() or "without suffix" for name in names).most_common(
        LISTED
    )
    advice = {ADVICE[kind] for kind, _ in kinds if kind in ADVICE}
    return ", ".join(f"{n:,} {kind}" for kind, n in kinds) + "".join(f" ({one} to read these)" for one in advice)


def printable(text: str) -> str:
    """Returns a text in one line of characters that any terminal takes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
