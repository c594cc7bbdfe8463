"""What sub-folders mean: each layout that people have gives the right splits and labels, or a note."""

import pytest

from ssl_jax.data.layout import classes_of, find_layout, role


def files(**folders):
    """Names of images: `a_b=3` are three in a/b, `_=1` is one beside the folders."""
    return sorted(
        f"{'' if folder == '_' else folder.replace('_', '/') + '/'}{i}.png"
        for folder, count in folders.items()
        for i in range(count)
    )


def layout(folders=(), **counts):
    return find_layout(files(**counts), folders)


@pytest.mark.parametrize("name", ["train", "Train", "TRAINING", "train2017", "training_set", "seg_train"])
def test_names_of_training_splits(name):
    assert role(name) == "train"


@pytest.mark.parametrize("name", ["test", "Test", "val", "valid", "Validation", "testing", "test1", "val_images"])
def test_names_of_test_splits(name):
    assert role(name) == "test"


@pytest.mark.parametrize("name", ["trains", "train station", "valley", "testament", "contest", "validated"])
def test_names_of_no_splits(name):
    assert role(name) is None


@pytest.mark.parametrize(
    ("train", "test"), [("train", "test"), ("Train", "Test"), ("train", "valid"), ("Training", "VAL")]
)
def test_two_splits(train, test):
    found = layout(**{f"{split}_{label}": 3 for split in (train, test) for label in "ab"})
    assert found == (f"{train}/", f"{test}/", (), ())


def test_a_labelled_test_split_comes_before_others_and_these_are_named():
    counts = {"train_a": 2, "train_b": 2, "val_a": 2, "val_b": 2, "test": 3}
    assert layout(**counts)[1:] == ("val/", (), ("test/ is not used",))
    assert layout(train=3, test=3, val=3)[1] == "test/"


def test_an_empty_test_split_is_none_and_is_said():
    assert layout(["train", "test"], train_a=2, train_b=2) == ("train/", None, (), ("test/ has no images",))


def test_what_lies_beside_the_splits_is_counted():
    found = layout(train=2, test=2, extra=3, _=1)
    assert found.train == "train/" and found.notes == ("not used: 4 images beside train/, in pictures, extra/",)


def test_a_test_split_beside_class_folders_is_not_trained_on():
    found = layout(a=3, b=3, test_a=1, test_b=1)
    assert found == ("", "test/", ("test/",), ())


def test_only_a_test_split():
    found = layout(test_a=2, test_b=2)
    assert found == ("test/", None, (), ("there is no train/ beside test/, whose images are trained on",))


def test_trains_are_a_class_beside_others():
    found = layout(bus=3, car=3, train=3)
    assert found.train == "" and found.notes == ("train/ is taken as a class beside bus/, car/",)
    assert layout(train=3, extra=3).train == "train/"  # but one other folder makes no classes


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"set_train_a": 1, "set_train_b": 1, "set_test_a": 1}, ("set/train/", "set/test/")),
        ({"x_y_a": 2, "x_y_b": 2}, ("x/y/", None)),
        (
            {f"{split}_{split}_{label}": 1 for split in ("train", "test") for label in "ab"},
            ("train/train/", "test/test/"),
        ),
        ({"train_a": 2, "train_b": 2, "test_a_x": 2}, ("train/", "test/")),  # which is a class
        ({"train_a": 2, "test_a": 2}, ("train/", "test/")),
    ],
)
def test_a_folder_that_only_holds_another_stands_for_it(counts, expected):
    assert layout(["docs"], **counts)[:2] == expected


def test_splits_inside_of_classes_are_said_to_be_trained_on():
    [note] = layout(a_train=4, a_test=1, b_train=4, b_test=1).notes
    assert note == "trained on, too: 2 images of test/ inside of other folders; write test/CLASS/"


def test_splits_of_other_names_are_said_to_be_classes():
    [note] = layout(trn_a=2, trn_b=2, tst_a=1, tst_b=1).notes
    assert note.startswith("trn/, tst/ are taken as classes, though each has a/, b/; if they are splits, call them")
    assert layout(a_x=2, a_y=2, b_x=2).notes == ()


def test_class_folders_without_a_split():
    assert layout(a=2, b=2) == ("", None, (), ())
    assert classes_of(files(a=2, b=2)).names == ("a", "b")


def test_a_stray_picture_leaves_the_classes():
    found = classes_of(files(a=12, b=12, _=1))
    assert found == (("a", "b"), ("0.png",), ())


def test_many_pictures_beside_folders_are_an_unlabelled_set():
    found = classes_of(files(a=2, b=2, _=9))
    assert found.names is None and not found.strays
    assert found.notes == ("not taken as classes: a/, b/, beside which there are 9 pictures",)


def test_a_folder_without_images_is_no_class():
    found = classes_of(files(a=2, b=2), ["a", "b", "c"])
    assert found.names == ("a", "b") and found.notes == ("no images in c/: no class of that name",)


def test_one_folder_is_no_class():
    assert classes_of(files(a=2)) == (None, (), ("all images are in one folder, a/, which makes no classes",))
    assert classes_of(files(a=2), known=("a", "b")).names == ("a",)
    assert classes_of(["0.png"]) == (None, (), ())


def test_a_folder_may_be_called_like_a_picture():
    assert classes_of(["c.png/0.png", "d/0.png"]).names == ("c.png", "d")
