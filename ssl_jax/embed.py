"""The command that embeds images: `python -m ssl_jax.embed --workdir=DIR --source=SOURCE --out=FILE`."""

import collections
import copy
import json
import pathlib
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from ssl_jax import command, data, embeddings, neighbours, parallel
from ssl_jax.atomic import replacing
from ssl_jax.data.decoding import UnreadableError
from ssl_jax.errors import UserError
from ssl_jax.evaluate.features import layers
from ssl_jax.model import Model, load
from ssl_jax.monitor.progress import Progress
from ssl_jax.schema import complete
from ssl_jax.words import number_of
from ssl_jax.workdir import read_config

SPLITS = ("train", "test")
SHARD = 4096  # images; an interruption loses at most one shard of work
FORMAT = 2  # of a file; those of format 1 have rows for images that could not be read
LEFT_OUT = "left_out"  # positions of images that could not be read, in what a file says of itself

EXAMPLES = """
The file has a row per image: `file`, `split`, where there are classes `label` and `class`, and `embedding`. Images that
cannot be read have none, and are named.

examples:
  python -m ssl_jax.embed --workdir=runs/byol --source=folder:/photos --out=photos.npz
  python -m ssl_jax.embed --workdir=runs/byol --source=folder:/photos --out=photos.parquet --nearest=12

The same command goes on after an interruption. With --nearest it also writes photos.html, photos_duplicates.csv and
photos_outliers.csv beside the file, and embeds nothing again if the file is there.
"""


def main(options) -> None:
    out = command.writable_file(options.out)
    embeddings.format_of(out)
    parallel.start()
    model = load(options.workdir)
    reading = as_the_run(options.workdir, model.canvas)
    images = open_images(options.source, options.split, options.dir, reading)
    print(*(f"{line}\n" for line in data.remarks(images.sources)), sep="", end="")
    feature, _ = layers(model.method, options.feature or model.feature, "--feature")
    if options.nearest and not options.nearest.isdecimal():  # a name that cannot be shown is said before the work
        for i in neighbours.choose(options.nearest, images.columns["file"]):
            if error := images.fault(i):
                raise UserError(
                    f"{images.columns['file'][i]} of --nearest cannot be read ({error}); name another image"
                )
    about = {
        "format": FORMAT,
        "model": model.origin,
        "feature": feature,
        "images": len(images),
        "checksum": checksum(model, images),
    }
    if not parallel.from_first(embeddings.is_there(out, about)):
        embed(model, feature, images, out, about)
    unread = np.zeros(len(images), bool)
    if jax.process_index() == 0:  # others may not see the file
        unread[embeddings.about(out)[LEFT_OUT]] = True
    lost = np.flatnonzero(parallel.from_first(unread)).tolist()
    print(*(f"{line}\n" for line in images.faults(lost)), sep="", end="")
    images = images.without(lost)
    print(f"{out}: {feature} of {number_of(len(images), 'image')} of {options.source}, {model.origin}")
    if options.nearest:
        shown = neighbours.choose(options.nearest, images.columns["file"])
        print("compares all images with each other", flush=True)
        found = neighbours.search(embeddings.read(out), options.duplicates)
        if jax.process_index() == 0:
            print(*neighbours.write(out, images, found, shown), sep="\n")


class Images:
    """Several splits of a source as one, with what is known of each image.

    Args:
        splits: source by name.

    Attributes:
        columns: arrays with a row per image: `file`, `split` and, if there are classes, `label` and `class`.
    """

    def __init__(self, splits: dict[str, data.Source]):
        self.sources = list(splits.values())
        first = self.sources[0]
        self.fields = {"image": first.fields["image"]}
        self.name = first.name
        self.unreadable: list[int] = []  # positions of those that were asked for in vain
        self.starts = np.cumsum([0, *map(len, self.sources)])
        names = [name for split, source in splits.items() for name in files_of(split, source)]
        split = np.repeat(list(splits), [len(source) for source in self.sources])
        self.rows = np.arange(len(split))  # position here -> in all splits together
        self.columns = {"file": np.array(names), "split": split}
        if first.classes:
            labels = np.concatenate([np.asarray(source.labels, np.int32) for source in self.sources])
            classes = np.array([*first.classes, ""])  # the last is that of -1, unknown
            self.columns |= {"label": labels, "class": classes[labels]}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, Any]:
        """Returns an example; a black one if there is none to read, whose position is added to `unreadable`."""
        try:
            return self.read(i)
        except UnreadableError:
            self.unreadable.append(i)
            return {"image": np.zeros((1, 1, 3), np.uint8)}

    def read(self, i: int) -> dict[str, Any]:
        """Returns an example, and never that of another file in its stead.

        Raises:
            UnreadableError: if its file cannot be decoded.
        """
        row = self.rows[i]
        number = int(np.searchsorted(self.starts, row, "right")) - 1
        source, position = self.sources[number], int(row - self.starts[number])
        return source.decoded(position) if hasattr(source, "decoded") else source[position]

    def fault(self, i: int) -> UnreadableError | None:
        """Returns why an image cannot be read; None if it can."""
        try:
            self.read(i)
        except UnreadableError as error:
            return error
        return None

    def faults(self, positions: Iterable[int]) -> list[str]:
        """Returns lines that say which of some images cannot be read, and why."""
        names = collections.defaultdict(list)
        for i in positions:
            if error := self.fault(i):
                names[error.why].append(f"{self.columns['file'][i]} ({error})")
        return [data.left_out(why, some) for why, some in names.items()]

    def without(self, positions: Sequence[int]) -> "Images":
        """Returns these images but for some."""
        others = copy.copy(self)
        others.rows = np.delete(self.rows, positions)
        others.columns = {name: np.delete(column, positions) for name, column in self.columns.items()}
        return others


def files_of(split: str, source: Any) -> list[str]:
    """Returns the file of each image of a source, or where there are none its split and position."""
    files = getattr(source, "files", None)
    return list(files) if files else [f"{split}/{i}" for i in range(len(source))]


def as_the_run(workdir: str, canvas: int) -> data.Reading:
    """Returns how the run in a workdir reads images, on a canvas of this side (pixels)."""
    settings = complete(read_config(workdir)).data
    return data.Reading(canvas, canvas, settings.max_pixels, settings.host_bytes)


def checksum(model: Model, images: Images) -> int:
    """Returns a number that other weights change, or other names or sizes of files."""
    listings = [source.listing for source in images.sources]
    found = zlib.crc32(json.dumps([images.columns["file"].tolist(), listings]).encode())
    for array in jax.tree.leaves(model.weights):
        found = zlib.crc32(np.asarray(array).tobytes(), found)
    return found


def open_images(name: str, split: str | None, data_dir: str | None, reading: data.Reading) -> Images:
    """Opens one split of a source, or all of them.

    Raises:
        UserError: if there is no such source or split.
    """
    opened = {one: data.open_source(name, one, data_dir, reading=reading) for one in ([split] if split else SPLITS)}
    found = {one: source for one, source in opened.items() if source is not None}
    if not found:
        raise UserError(f"{name} has no {split} split; leave --split out")
    return Images(found)


def embed(model: Model, feature: str, images: Images, out: pathlib.Path, about: dict[str, Any]) -> None:
    """Embeds images into shards beside a file, those of an interrupted command excepted, and then joins these.

    All devices of all processes compute, the first process writes.
    """
    folder, first = out.with_name(f"{out.name}.parts"), jax.process_index() == 0
    if first:
        claim(folder, about)
    paths = [folder / f"{start:09}.npy" for start in range(0, len(images), SHARD)]
    there = parallel.from_first([path.exists() for path in paths])
    done = int(there.sum()) * SHARD
    progress = Progress(len(images), 1, unit="image")
    print(f"embeds {number_of(max(0, len(images) - done), 'image')}" + (f", {done:,} are there" if done else ""))
    for number in np.flatnonzero(~there):
        rows = shard(model, feature, images, int(number) * SHARD, progress)
        if first:
            save(paths[number], rows)
    progress.close()
    if first:
        marked = np.concatenate([np.isnan(np.load(path, mmap_mode="r")[:, 0]) for path in paths])
        # A network may make NaN of what can be read.
        lost = [i for i in np.flatnonzero(marked).tolist() if images.fault(i)]
        width = np.load(paths[0], mmap_mode="r").shape[1]
        kept = np.split(~np.isin(np.arange(len(images)), lost), range(SHARD, len(images), SHARD))
        pieces = (np.load(path)[rows] for path, rows in zip(paths, kept, strict=True))
        embeddings.write(out, images.without(lost).columns, pieces, width, about | {LEFT_OUT: lost})
        shutil.rmtree(folder)
    parallel.wait()


def shard(model: Model, feature: str, images: Images, start: int, progress: Progress) -> np.ndarray:
    """Returns the features [B, D] of the images of one shard; NaN for those that cannot be read."""
    images.unreadable.clear()

    def watched() -> Iterator[np.ndarray]:
        seen = start
        for rows in model.embed_source(images, feature, start, min(start + SHARD, len(images))):
            seen += len(rows)
            progress.update(seen, {})
            yield rows

    found = np.concatenate(list(watched()))
    lost = np.isin(np.arange(start, start + len(found)), images.unreadable)
    found[parallel.gather(lost).reshape(-1, len(found)).any(0)] = np.nan  # each process has read some of the images
    return found


def save(path: pathlib.Path, array: np.ndarray) -> None:
    """Writes an array, whole or not at all."""
    with replacing(path) as part:
        np.save(part, array)


def claim(folder: pathlib.Path, about: dict[str, Any]) -> None:
    """Makes a folder of shards, or checks that the one that is there is of the same embeddings.

    Raises:
        UserError: if it is not, or cannot be written.
    """
    file = folder / "about.json"
    try:
        if not file.exists():
            folder.mkdir(exist_ok=True)
            with replacing(file) as part:
                part.write_text(json.dumps(about))
        same = json.loads(file.read_text()) == about
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); name another --out") from error
    except ValueError:  # it is damaged
        same = False
    if not same:
        raise UserError(
            f"{folder} holds a part of other embeddings, of another network, feature or set of images; "
            "remove it, or name another --out"
        )


def cosine(text: str) -> float:
    """Returns the cosine that a text stands for."""
    if not -1 <= (value := float(text)) <= 1:
        raise ValueError
    return value


def parser() -> command.Parser:
    parser = command.Parser("embed", "Embeds images with the network of a trained run.", epilog=EXAMPLES)
    parser.add_argument("--workdir", required=True, metavar="DIR", help="the workdir of a trained run")
    parser.add_argument("--source", required=True, metavar="SOURCE", help="the images, such as folder:/photos")
    parser.add_argument("--out", required=True, metavar="FILE", help="the file to write, .npz or .parquet")
    parser.add_argument("--split", choices=SPLITS, help="one split of the source; default: all of it")
    parser.add_argument("--dir", metavar="DIR", help="the folder of prepared TensorFlow Datasets sets")
    parser.add_argument(
        "--feature",
        metavar="FEATURE",
        help="backbone, projection or hidden:K, of the projector; default: what the run evaluates",
    )
    parser.add_argument(
        "--nearest",
        metavar="N|FILE,FILE",
        help="also write a page of the neighbours of N images or of these files, of near-duplicates and outliers",
    )
    least = "least similarity of near-duplicates, a cosine; default 0.98"
    parser.add_argument("--duplicates", type=cosine, default=0.98, metavar="COSINE", help=least)
    return parser


if __name__ == "__main__":
    command.run(main, parser())
