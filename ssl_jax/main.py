"""Trains the run that a config describes; the same command resumes it."""

import hashlib
import json
import os
import pathlib

import jax

from ssl_jax import command, data, parallel
from ssl_jax.config import load, load_for_photos
from ssl_jax.errors import UserError
from ssl_jax.pretrained import check_start, new_start
from ssl_jax.schema import lookup, remembers_images
from ssl_jax.workdir import check_folder, check_free, check_unused, hold, shapes_run

EXAMPLES = """
presets of every config:
  (none)      the embedded images, minutes on two CPU cores
  :cifar10    the published small-scale recipe
  :imagenet   the paper's own recipe
  :photos     the first one with the views of the third, for a folder of colour images; other images with colours
              get these views too, unless --config.augment.recipe names others
  (some configs have more, such as swav.py:imagenet_w2; see the table at the top of the config file)

any value of the config can be changed:
  --config.data.source=folder:/photos   your own images, in any tree; in {train,test}/CLASS/ the
                                        features are also evaluated
  --config.data.split=0.1               holds out a tenth of each class, if there is no test split
  --config.data.source=tfds:cifar10     a prepared TensorFlow Datasets set
  --config.data.source=pairs:/photos    images with captions, listed in train.csv or train.jsonl
  --config.data.size=64                 pixels
  --config.epochs=10   --config.steps=500   --config.minutes=10   --config.batch_size=128
  --config.optimizer.learning_rate=0.1      --config.network.encoder.name=resnet18
  --config.network.encoder.stem=        an empty value: null in config.json, for keys that may be
  --config.init.from=runs/simclr        start from the encoder of another run
  (WORKDIR/config.json lists all keys)

examples:
  python -m ssl_jax.main --config=configs/byol.py
  ssl-jax train --config=byol           the same, from any folder
  python -m ssl_jax.main --config=configs/swav.py:imagenet --workdir=/data/swav
  python -m ssl_jax.main --config=configs/simclr.py --config.data.source=folder:/photos --config.data.size=64

Ctrl-C saves and stops, as SIGTERM and SIGHUP do; the same command resumes, and with more epochs a finished run goes on.
Metrics are in WORKDIR/metrics.jsonl and TensorBoard files, pictures and curves in WORKDIR/report.html.
"""


def main(options) -> None:
    config = load(options.config, options.overrides)
    photos = load_for_photos(options.config, options.overrides)
    workdir = local_folder(options.workdir or default_workdir(options, config))
    use_cache()
    parallel.keep_freed_memory()
    parallel.start()
    check_folder(workdir)
    from ssl_jax import length
    from ssl_jax.build import build, check_memory, check_shared_memory
    from ssl_jax.choices import recall
    from ssl_jax.train import train

    config, photos = recall(config, photos, workdir)
    check_unused(workdir)
    start = new_start(config, workdir)
    run = build(config, photos=photos)
    check_free(workdir, run.config)
    if start:
        check_start(run, start)
    check_memory(run)
    check_shared_memory(run)
    if jax.process_index() == 0:
        print(*data.describe(run.source, run.test, config.evaluate.labels, run.canvas), sep="\n")
    fixed = remembers_images(run.method), bool(run.classes) or run.method.needs_labels
    data.identity.check(run.source, workdir, config.data.changed, *fixed)
    run = length.fix(run)
    notes = filter(None, (length.check(run, workdir), length.outlasting(run)))
    with hold(workdir, run.config):
        if jax.process_index() == 0:
            print(*(f"{note}\n" for note in notes), sep="", end="")
        data.identity.settle(run.source, workdir, config.data.changed)
        train(run, workdir, start)


def use_cache() -> None:
    """Keeps compiled programs for the next start."""
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/ssl_jax"))
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # hundreds of small programs add up


def local_folder(text: str) -> pathlib.Path:
    """Returns the path of a workdir.

    Raises:
        UserError: if it is the address of something remote, or no text, which checkpoints need.
    """
    if "://" in text:
        raise UserError(
            f"the workdir {text} is no folder of this machine; mount it, as with gcsfuse, and name its path"
        )
    path = pathlib.Path(text).expanduser().resolve()
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"the path of the workdir {path} is no UTF-8; name another --workdir") from None
    return path


def default_workdir(options, config) -> str:
    """Returns a workdir named after the config and a hash of the overrides that make it another run."""
    file, _, preset = options.config.partition(":")
    parts = [pathlib.Path(file).stem, preset]
    changed = {key: lookup(config, key) for key, _ in sorted(options.overrides) if shapes_run(key)}
    if changed:
        parts.append(hashlib.sha256(json.dumps(changed).encode()).hexdigest()[:6])
    return str(pathlib.Path("runs", "-".join(filter(None, parts))))


def parser() -> command.Parser:
    parser = command.Parser("main", __doc__, epilog=EXAMPLES)
    parser.add_argument(
        "--config", required=True, metavar="FILE[:PRESET]", help="a recipe: byol, byol:cifar10 or a file of your own"
    )
    parser.add_argument("--workdir", metavar="DIR", help="where the run lives; default: runs/ and the config's name")
    return parser


if __name__ == "__main__":
    command.run(main, parser())
