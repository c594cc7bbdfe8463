"""Captions of the embedded clothes, made by rules from the class and from what the pixels show; nobody wrote them.

The shade is the mean grey of the garment. Sleeves are long if the garment is about as wide below as above, a cut is
wide by its width in pixels, a shape high by its height. Captions of the test images use other sentences than those of
the training images, then other words for what the pixels show, then also for the class.
"""

from typing import NamedTuple

import numpy as np

VISIBLE = 40  # grey level from which a pixel is taken as part of the garment


class Words(NamedTuple):
    """How things are called."""

    names: tuple[str, ...]  # of the classes
    shades: tuple[str, str, str]  # dark, middle, light
    details: dict[str, tuple[str, str]]  # by what is measured: little, much


TRAINED = Words(
    ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ("dark", "grey", "light"),
    {
        "sleeves": ("with short sleeves", "with long sleeves"),
        "cut": ("with a narrow cut", "with a wide cut"),
        "shape": ("with a low shape", "with a high shape"),
    },
)
OTHER = Words(
    ("tee", "pair of pants", "sweater", "gown", "jacket", "flip-flop", "blouse", "trainer", "purse", "bootie"),
    ("black", "medium", "bright"),
    {
        "sleeves": ("that leaves the arms bare", "that covers the arms"),
        "cut": ("that is slim", "that is loose"),
        "shape": ("that is flat", "that is tall"),
    },
)
OTHER_BUT_NAMES = OTHER._replace(names=TRAINED.names)

SENTENCES = {
    "train": (
        ("a photo of a {shade} {name} {detail}", TRAINED),
        ("a {shade} {name} {detail}", TRAINED),
        ("this {name} is {shade}, {detail}", TRAINED),
        ("{name} {detail}, {shade}", TRAINED),
        ("one {name} {detail} in a {shade} tone", TRAINED),
    ),
    "test": (
        ("look, there is some {shade} {name} here {detail}", TRAINED),
        ("for sale: {shade} {name} {detail}", OTHER_BUT_NAMES),
        ("for sale: {shade} {name} {detail}", OTHER),
    ),
}
KINDS: dict[str, tuple[str, ...]] = {"train": (), "test": ("other_sentence", "other_words", "other_names")}

MEASURED = ("sleeves", "cut", "sleeves", "cut", "sleeves", "shape", "sleeves", "shape", "shape", "shape")  # by class


def describe(grey: np.ndarray, label: int, sentences: tuple[tuple[str, Words], ...]) -> tuple[str, ...]:
    """Returns the captions of a garment, one for each sentence.

    Args:
        grey: uint8 [28, 28].
        label: its class.
        sentences: with the words for it.
    """
    visible = grey > VISIBLE
    shade = int(np.digitize(grey[visible].mean() if visible.any() else 0.0, (135, 185)))
    measured = MEASURED[label]
    much = int(MEASURES[measured](visible))
    return tuple(
        sentence.format(name=words.names[label], shade=words.shades[shade], detail=words.details[measured][much])
        for sentence, words in sentences
    )


MEASURES = {
    "sleeves": lambda visible: visible[16:22].sum() / 6 > 0.9 * visible[6:10].sum() / 4,
    "cut": lambda visible: visible.any(axis=0).sum() > 13,
    "shape": lambda visible: visible.any(axis=1).sum() > 16,
}
