"""Finding and reading files: links, hidden files, workdirs of runs; and a disk that fails."""

import errno
import os
import pathlib
import pickle

import numpy as np
import pytest
from PIL import Image

from ssl_jax.data import files
from ssl_jax.data.reading import Reading
from ssl_jax.data.source import open_source
from ssl_jax.errors import UserError


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_each_file_that_is_left_out_has_a_reason(tmp_path):
    touch(*(tmp_path / name for name in ("a.PNG", "b/c.tif", "notes.txt", "b/list.csv", ".hidden.png", "@eaDir/t.jpg")))
    (tmp_path / "nowhere.png").symlink_to("gone.png")
    (tmp_path / "itself.png").symlink_to("itself.png")
    (tmp_path / "up").symlink_to("..")
    os.mkfifo(tmp_path / "pipe.png")  # which would block whoever reads it
    found = files.scan(tmp_path)
    assert found.names == ["a.PNG", "b/c.tif"] and found.sizes == [0, 0]
    assert found.left_out == {
        files.OTHER: ["b/list.csv", "notes.txt", "pipe.png"],
        files.HIDDEN: [".hidden.png", "@eaDir"],
        files.BROKEN: ["itself.png", "nowhere.png"],
        files.REPEATED: ["up"],
    }


@pytest.mark.parametrize("link", ["a", "z"])
def test_a_folder_that_is_linked_twice_is_read_under_its_own_name(tmp_path, link):
    touch(tmp_path / "m" / "0.png")
    (tmp_path / link).symlink_to("m")
    found = files.scan(tmp_path)
    assert found.names == ["m/0.png"] and found.left_out == {files.REPEATED: [link]}


def test_the_workdir_of_a_run_is_no_source_of_images(tmp_path):
    touch(*(tmp_path / name for name in ("a.png", "run/config.json", "run/lock", "run/views.png", "run/x/y.png")))
    touch(tmp_path / "plain" / "config.json", tmp_path / "plain" / "b.png")
    found = files.scan(tmp_path)
    assert found.names == ["a.png", "plain/b.png"] and found.left_out[files.WORKDIR] == ["run"]


@pytest.fixture
def images(tmp_path):
    for i in range(3):
        Image.new("RGB", (6, 4), (10 * i,) * 3).save(tmp_path / f"{i}.png")
    return tmp_path


@pytest.fixture
def broken_disk(monkeypatch):
    """Makes reading of 1.png fail with an error some number of times."""

    def make(number, times):
        def read(path, original=files.read_all):
            if os.path.basename(path) == "1.png" and left:
                left.pop()
                raise OSError(number, os.strerror(number), path)
            return original(path)

        left = [None] * times
        monkeypatch.setattr(files, "WAITS", (0.0, 0.0))
        monkeypatch.setattr(files, "read_all", read)
        return left

    return make


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN])
def test_an_error_that_passes_costs_no_image(images, broken_disk, number):
    left = broken_disk(number, times=2)
    source = open_source(f"folder:{images}")
    assert not left
    assert [int(source[i]["image"][0, 0, 0]) for i in range(len(source))] == [0, 10, 20]


@pytest.mark.parametrize(("number", "tries"), [(errno.EIO, 3), (errno.EACCES, 1), (errno.ENOENT, 1)])
def test_an_error_that_stays_ends_the_run(images, broken_disk, number, tries):
    left = broken_disk(number, times=9)
    with pytest.raises(UserError, match=rf"1\.png cannot be read \({os.strerror(number)}\)"):
        open_source(f"folder:{images}")
    assert len(left) == 9 - tries


def test_a_folder_that_may_not_be_read_ends_the_run(images, monkeypatch):
    def scandir(path, original=os.scandir):
        if os.path.basename(path) == "secret":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return original(path)

    (images / "secret").mkdir()
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=r"secret cannot be read \(Permission denied\)"):
        open_source(f"folder:{images}")


def test_what_was_decoded_is_kept_if_all_of_it_fits(images, monkeypatch):
    read = []
    monkeypatch.setattr(files, "content", lambda path: read.append(path) or pathlib.Path(path).read_bytes())
    for budget, times in ((10**6, 3), (100, 6)):  # checked once; else read again
        source = open_source(f"folder:{images}", reading=Reading(6, 6, host_bytes=budget))
        assert [int(source[i]["image"][0, 0, 0]) for i in range(3)] == [0, 10, 20]
        assert len(read) == times
        read.clear()


def test_what_was_kept_is_shared_with_copies(images):
    (images / "1.png").write_text("")
    source = open_source(f"folder:{images}", reading=Reading(6, 6, host_bytes=10**6))
    copy = pickle.loads(pickle.dumps(source))  # as a worker process gets it
    for file in images.iterdir():
        file.unlink()
    for one in (source, copy):
        assert [int(one[i]["image"][0, 0, 0]) for i in range(2)] == [0, 20]
    assert len(pickle.dumps(source)) < 2000
    copy.kept.add(0, source[1])
    assert int(source[0]["image"][0, 0, 0]) == int(copy[0]["image"][0, 0, 0]) == 0


def test_a_large_photograph_is_decoded_at_a_reduced_size(tmp_path):
    row = np.linspace(0, 255, 640).astype(np.uint8)
    Image.fromarray(np.tile(row, (480, 1))).save(tmp_path / "a.jpg")
    for wanted, shape in ((None, (480, 640)), (80, (60, 80)), (100, (75, 100)), (81, (61, 81)), (4000, (480, 640))):
        image = open_source(f"folder:{tmp_path}", reading=Reading(wanted, host_bytes=10**7))[0]["image"]
        assert image.shape == (*shape, 3)
        np.testing.assert_allclose(image[5, :, 0], np.linspace(0, 255, shape[1]), atol=4)
    kept = open_source(f"folder:{tmp_path}", reading=Reading(100))[0]["image"]
    assert kept.shape == (120, 160, 3)  # a quarter, which has enough


def test_a_table_of_images_does_not_lose_rows_to_a_disk_that_fails(images, monkeypatch):
    (images / "train.csv").write_text("image,caption\n0.png,a\n1.png,b\ngone.png,c\n")

    def stat(path, *args, original=os.stat, **options):
        if str(path).endswith("1.png"):
            raise OSError(errno.EACCES, "Permission denied", path)
        return original(path, *args, **options)

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(UserError, match=r"1\.png cannot be read \(Permission denied\)"):
        open_source(f"pairs:{images}")
