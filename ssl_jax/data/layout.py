"""What the sub-folders of a folder of images mean, as pure functions of the names below it."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ssl_jax.words import number_of

# train, Train, training_set, seg_train, train2017; test, val, valid, Validation, test_images, ...
SPLIT = re.compile(r"(?:seg[_-])?(train|test|val)(?:ing|id|idation)?\d*(?:[_ -]?(?:set|split|images|imgs|data))?\d*")
STRAY = 10  # pictures beside class folders are strays if there are this many times as many inside
SHOWN = 3  # names in a note


class Layout(NamedTuple):
    """Where the splits of a folder are; prefixes are "" or end with a slash."""

    train: str  # prefix of its names
    test: str | None
    apart: tuple[str, ...]  # prefixes relative to `train` of what does not belong to it
    notes: tuple[str, ...]  # what the user may not expect


class Classes(NamedTuple):
    """The classes of a split."""

    names: tuple[str, ...] | None  # None: it has none
    strays: tuple[str, ...]  # pictures that belong to none of them, and are left out
    notes: tuple[str, ...]


def find_layout(names: Sequence[str], folders: Iterable[str]) -> Layout:
    """Finds the training and the test images.

    `train` and `test` (`val`, `valid`, ...; in any case) are the splits. Without `train`, everything but the test split
    is the training split. A folder that only holds another one stands for that.

    Args:
        names: of the image files, relative to the folder.
        folders: relative to the folder.
    """
    base = only_inside(names, "", lambda name, _: role(name) is not None)
    inside = tally(names, folders, base)
    trains = sorted((name for name in inside if role(name) == "train"), key=lambda name: (name != "train", name))
    tests = sorted((name for name in inside if role(name) == "test"), key=lambda name: (not is_test(name), name))
    others = [name for name, count in inside.items() if count and name not in trains + tests]
    notes: list[str] = []
    if is_class(trains, tests, others, lambda name: tally(names, folders, base + name + os.sep)):
        notes.append(f"{trains[0]}/ is taken as a class beside {listed(others)}")
        others, trains = [*others, trains[0]], []
    notes += [f"{name}/ has no images" for name in trains + tests if not inside[name]]
    trains, tests = [name for name in trains if inside[name]], [name for name in tests if inside[name]]
    if tests and not trains and not others:
        notes.append(f"there is no train/ beside {listed(tests)}, whose images are trained on")
        trains, tests = tests[:1], tests[1:]

    def split(name: str, known: tuple[str, ...] = ()) -> str:
        def stop(inner: str, prefix: str) -> bool:  # at a class, also if it is the only one
            return inner in known or set(tally(names, (), prefix + inner + os.sep)) == {""}

        return only_inside(names, base + name + os.sep, stop)

    train = split(trains[0]) if trains else base
    known = classes_of(below(names, train)).names or ()
    prefixes = [split(name, known) for name in tests]
    test = next((one for one in prefixes if classes_of(below(names, one)).names), prefixes[0] if tests else None)
    notes += [f"{name}/ is not used" for name, one in zip(tests, prefixes, strict=True) if one != test]
    if not trains:
        apart = tuple(one[len(base) :] for one in prefixes)
        return Layout(base, test, apart, (*notes, *hidden_splits(names, base, apart)))
    unused = trains[1:] + others
    if unused:
        images = number_of(sum(inside[name] for name in unused), "image")
        notes.append(f"not used: {images} beside {trains[0]}/, in {listed(unused)}")
    return Layout(train, test, (), tuple(notes))


def only_inside(names: Sequence[str], prefix: str, stop: Callable[[str, str], bool]) -> str:
    """Returns the prefix of the innermost folder that holds all images below a prefix.

    Args:
        names: of the image files.
        prefix: where to begin.
        stop: whether not to go on into a folder, given its name and the prefix of what it is in.
    """
    while len(inside := tally(names, (), prefix)) == 1 and (only := next(iter(inside))) and not stop(only, prefix):
        prefix += only + os.sep
    return prefix


def role(name: str) -> str | None:
    """Returns which split a folder of this name is: "train", "test" or None."""
    match = SPLIT.fullmatch(name.lower())
    return ("train" if match[1] == "train" else "test") if match else None


def is_test(name: str) -> bool:
    """Returns whether a test split is called so, and is not a validation split."""
    return "test" in name.lower()


def is_class(trains, tests, others, inside) -> bool:
    """Returns whether a folder called train is a class of trains: beside others of pictures, without a test split."""
    folders = [name for name in others if name]
    return len(trains) == 1 and not tests and len(folders) > 1 and set(inside(trains[0])) == {""}


def tally(names: Iterable[str], folders: Iterable[str], base: str) -> dict[str, int]:
    """Returns the number of images in each sub-folder of a folder, and under "" of those beside them, if any."""
    heads = [name.partition(os.sep) for name in below(names, base)]
    empty = {name.partition(os.sep)[0]: 0 for name in below(folders, base)}
    return empty | Counter(head if slash else "" for head, slash, _ in heads)


def below(names: Iterable[str], prefix: str) -> list[str]:
    """Returns the names with a prefix, without it."""
    return [name[len(prefix) :] for name in names if name.startswith(prefix)]


def classes_of(names: Sequence[str], folders: Iterable[str] = (), known: tuple[str, ...] | None = None) -> Classes:
    """Returns the classes of a split: its sub-folders with images, if there are at least two.

    A few pictures beside them are strays; if they are many, the sub-folders are no classes.

    Args:
        names: of its image files, relative to it.
        folders: of its folders.
        known: of the training split: one of these is enough.
    """
    inside = tally(names, folders, "")
    beside = inside.pop("", 0)
    classes, empty = (sorted(name for name in inside if bool(inside[name]) is full) for full in (True, False))
    if len(classes) < 2 and not (known and classes):
        alone = f"all images are in one folder, {classes[0]}/, which makes no classes" if classes and not beside else ""
        return Classes(None, (), (alone,) if alone else ())
    if beside * STRAY > len(names) - beside:
        what = f"not taken as classes: {listed(classes)}, beside which there are {number_of(beside, 'picture')}"
        return Classes(None, (), (what,))
    notes = (f"no images in {listed(empty)}: no class of that name",) if empty else ()
    return Classes(tuple(classes), tuple(name for name in names if os.sep not in name), notes)


def hidden_splits(names: Sequence[str], base: str, without: Iterable[str]) -> tuple[str, ...]:
    """Returns a note on what may be splits, all of which are trained on: inside of class folders, or of other names."""
    trained = [name for name in below(names, base) if not name.startswith(tuple(without))]
    second = Counter(name.split(os.sep)[1] for name in trained if name.count(os.sep) > 1)
    tests = [name for name in second if role(name) == "test"]
    if tests and any(role(name) == "train" for name in second):
        images = number_of(sum(second[name] for name in tests), "image")
        return (f"trained on, too: {images} of {listed(tests)} inside of other folders; write test/CLASS/",)
    heads = dict.fromkeys(name.partition(os.sep)[0] for name in trained)
    inside = [set(tally(trained, (), head + os.sep)) for head in heads]
    if len(heads) > 1 and len(second) > 1 and all(each == set(second) for each in inside):
        return (
            f"{listed(heads)} are taken as classes, though each has {listed(sorted(second))}; if they are splits, call "
            "them train/ and test/",
        )
    return ()


def listed(names: Iterable[str] | Mapping) -> str:
    """Returns the first names of folders; "" stands for pictures."""
    shown = [f"{name}/" if name else "pictures" for name in names]
    return ", ".join(shown[:SHOWN]) + (f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else "")
