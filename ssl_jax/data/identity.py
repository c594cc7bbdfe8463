"""Which images a run is trained on: `data.json` in its workdir, and beside it the list of their files."""

import gzip
import hashlib
import json
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import jax

from ssl_jax import parallel
from ssl_jax.atomic import replacing
from ssl_jax.data.source import Source
from ssl_jax.errors import UserError

FILE, FILES = "data.json", "data.files.json.gz"
KEPT = ("config.json", "lock")  # in a workdir that starts anew
CHANGED = ("refuse", "continue", "restart")
SHOWN = 3  # names in a message

Listing = Sequence[tuple[str, int]]  # the name and the bytes of each file


def identity(source: Source) -> dict[str, Any]:
    """Returns what says which images a source has; paths and times of files make no difference."""
    content: Any = source.listing or [source.name, source.version, len(source)]
    return {
        "name": source.name,
        "version": source.version,
        "images": len(source),
        "classes": source.classes and list(source.classes),
        "checksum": hashlib.sha256(json.dumps(content).encode()).hexdigest(),
    }


def check(source: Source, workdir: pathlib.Path, changed: str, rows: bool, classes: bool) -> None:
    """Checks that the run in a workdir, if there is one, is trained on the images of a source, or may go on with them.

    Args:
        source: the training images.
        workdir: the folder of the run.
        changed: `data.changed`, what to do with a run that was trained on others.
        rows: whether the method remembers a row for each image.
        classes: whether what is trained has an output for each class.

    Raises:
        UserError: if the images differ and it may not go on, or what the workdir says of them is damaged.
    """
    old, new = read(workdir), identity(source)
    if old is None or old["checksum"] == new["checksum"] or changed == "restart":
        return
    said = f"{workdir} was trained on other images: {difference(workdir, old, new, source.listing)}"
    restart = "data.changed=restart to start anew (what the workdir holds is kept beside it)"
    if rows or (classes and old["classes"] != new["classes"]):
        reason = "its method remembers a row for each image" if rows else "the classes differ"
        raise UserError(f"{said}; it cannot go on with these, since {reason}; take the old ones, or set {restart}")
    if changed != "continue":
        raise UserError(f"{said}; take the old ones, or set data.changed=continue to go on with these, or {restart}")


def settle(source: Source, workdir: pathlib.Path, changed: str) -> None:
    """Writes down the images of a source as those of the run in a workdir, after `check`.

    If the run was trained on others and starts anew, all that it left moves to a sub-folder.
    """
    old, new = read(workdir), identity(source)
    if jax.process_index() == 0 and (old is None or old["checksum"] != new["checksum"]):
        if old is not None and changed == "restart":
            print(f"starts anew, since the images changed; the old run is in {set_aside(workdir)}")
        text = gzip.compress(json.dumps(list(source.listing)).encode(), mtime=0)
        for name, content in ((FILES, text), (FILE, json.dumps(new, indent=1).encode())):
            with replacing(workdir / name) as part:
                part.write_bytes(content)
    parallel.wait()


def set_aside(workdir: pathlib.Path) -> pathlib.Path:
    """Moves what a run left to a new sub-folder of its workdir, which is returned."""
    aside = next(path for n in range(1, 10_000) if not (path := workdir / f"before-{n}").exists())
    aside.mkdir()
    for path in sorted(workdir.iterdir()):
        if path.name in KEPT:
            shutil.copy(path, aside)
        elif not path.name.startswith("before-"):
            path.rename(aside / path.name)
    return aside


def read(workdir: pathlib.Path) -> dict[str, Any] | None:
    """Returns the `identity` of the images of the run in a workdir; None: it has none, or is older than this.

    Raises:
        UserError: if it is damaged.
    """
    try:
        found = json.loads((workdir / FILE).read_text())
        return {key: found[key] for key in ("name", "version", "images", "classes", "checksum")}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{workdir / FILE} is damaged; restore it, or delete it if the images are still the same"
        ) from error


def difference(workdir: pathlib.Path, old: dict[str, Any], new: dict[str, Any], listing: Listing) -> str:
    """Returns what differs between the images of a run and those of a source, in words."""
    try:
        before = dict(json.loads(gzip.decompress((workdir / FILES).read_bytes())))
    except (OSError, EOFError, ValueError, TypeError):
        before = {}
    now = dict(listing)
    if not before or not now:
        there, here = (" ".join(filter(None, (one["name"], one["version"]))) for one in (old, new))
        return f"{old['images']:,} of {there}, and data.source gives {new['images']:,} of {here}"
    parts = {
        "added": [name for name in now if name not in before],
        "removed": [name for name in before if name not in now],
        "changed": [name for name in now if name in before and now[name] != before[name]],
    }
    said = [f"{len(names):,} {what} ({shown(names)})" for what, names in parts.items() if names]
    return ", ".join(said) or "they are in another order"


def shown(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
