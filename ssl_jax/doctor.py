"""Checks whether this machine is ready to train: devices, versions, speed of steps and data, checkpoints, disk."""

import glob
import importlib.metadata
import itertools
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from packaging.requirements import Requirement

from ssl_jax import command, length, parallel
from ssl_jax.build import build, check_shared_memory
from ssl_jax.checkpoint import Checkpoints
from ssl_jax.config import load, load_for_photos
from ssl_jax.errors import UserError
from ssl_jax.main import use_cache
from ssl_jax.monitor.environment import device_memory, host_memory, version
from ssl_jax.numeric import size_in_bytes
from ssl_jax.run import Run
from ssl_jax.trainer import Trainer

LEAST_BATCH = 64  # of the default config
MEASURE = 3.0  # seconds for which a speed is measured, or more
SCRATCH = ".ssl_jax_doctor"  # in the workdir, for the checkpoint that is written and read
GIB = 2**30
# The kind of a device: the extra of JAX that supports it, and the packages that do.
SUPPORT = {"gpu": ("cuda12", ("jax-cuda12-plugin", "jax-cuda13-plugin")), "tpu": ("tpu", ("libtpu",))}
HELD = {
    "gpu": "see whether nvidia-smi works; CUDA 12 needs driver 525 or newer, CUDA 13 driver 580",
    "tpu": "another process may hold it: end that one first",
}
EPILOG = """
Without --config the machine is tried with a small recipe and the embedded images. Name your recipe and your images to
see whether they fit, and whether steps wait for data:

  python -m ssl_jax.doctor
  python -m ssl_jax.doctor --config=simclr:photos --config.data.source=folder:/photos --workdir=runs/photos

The exit code is 1 if there is something to do.
"""


class Finding(NamedTuple):
    """What was found about one part of the machine."""

    part: str
    seen: str
    advice: str = ""  # what to do; empty if all is well

    def __str__(self):
        return f"{'fix' if self.advice else 'ok ':4} {self.part}: {'; '.join(filter(None, self[1:]))}"


def check(part: str, look: Callable[..., Finding], *args) -> Finding:
    """Returns what a check finds, or the error that it ends with as a thing to fix."""
    try:
        return look(*args)
    except Exception as error:
        said = str(error) if isinstance(error, UserError) else command.explain(error)
        return Finding(part, "", said or f"failed with {type(error).__name__}: {command.first_line(error)}")


def check_devices() -> Finding:
    """Checks that JAX uses the accelerator of this machine, if it has one."""
    advice = unused_accelerator(jax.default_backend(), accelerator(), os.environ.get("JAX_PLATFORMS", ""), version)
    devices = jax.devices()
    limit = device_memory()
    host = f"a host with {os.cpu_count()} cores and {host_memory() / GIB:.0f} GiB"
    each = f" with {limit / GIB:.1f} GiB each" if limit else ""
    return Finding("devices", f"{len(devices)} x {devices[0].device_kind}{each}, {host}", advice)


def accelerator() -> str | None:
    """Returns the kind of accelerator that this machine has, whether or not JAX can use it."""
    if glob.glob("/dev/nvidia[0-9]*") or shutil.which("nvidia-smi"):
        return "gpu"
    return "tpu" if tpu_chips() else None


def tpu_chips() -> int:
    """Returns the number of TPU chips of this machine, whether or not JAX can use them; 0 if this JAX does not tell."""
    try:
        from jax._src.hardware_utils import num_available_tpu_chips_and_device_id as count  # nothing public tells
    except ImportError:  # what is private may move
        return 0
    return count()[0]


def unused_accelerator(used: str, present: str | None, platforms: str, version: Callable[[str], str | None]) -> str:
    """Returns what to do if this machine has an accelerator that JAX does not use; else nothing.

    Args:
        used: the kind of devices that JAX uses: cpu, gpu or tpu.
        present: the kind of accelerator of this machine.
        platforms: the environment variable JAX_PLATFORMS.
        version: returns the installed version of a package.
    """
    if present is None or used == present:
        return ""
    unused = f"JAX does not use the {present.upper()} of this machine: "
    if platforms:
        return f"{unused}unset JAX_PLATFORMS, which is {platforms}"
    extra, packages = SUPPORT[present]
    found = next(filter(version, packages), None)
    if found is None:
        return f"{unused}pip install --upgrade 'jax[{extra}]'"
    if present == "gpu" and version(found) != version("jaxlib"):
        mixed = f"{found} {version(found)} is not for jaxlib {version('jaxlib')}"
        return f"{unused}{mixed}: pip install --upgrade 'jax[{extra}]=={version('jax')}'"
    return unused + HELD[present]


def check_versions() -> Finding:
    """Checks that the packages which the library requires are installed in versions that it works with."""
    names = ("ssl_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain")
    seen = [f"python {sys.version.split()[0]}", *(f"{name} {version(name)}" for name in names)]
    missing = unmet(importlib.metadata.requires("ssl_jax") or [], version)
    return Finding("versions", ", ".join(seen), f"pip install {' '.join(map(repr, missing))}" if missing else "")


def unmet(requirements: list[str], version: Callable[[str], str | None]) -> list[str]:
    """Returns the requirements that the installed versions do not meet, those of extras left out."""

    def met(one: Requirement) -> bool:
        found = version(one.name)
        return found is not None and one.specifier.contains(found, prereleases=True)

    needed = [one for one in map(Requirement, requirements) if not one.marker or one.marker.evaluate({"extra": ""})]
    return [f"{one.name}{one.specifier}" for one in needed if not met(one)]


class Speed(NamedTuple):
    """Images per second over all devices."""

    steps: float
    reading: float | None = None  # None: all images are on the device


class Trial:
    """A run of a config, of which some steps are taken.

    Args:
        run: the run.
        place: a folder of the file system in which its workdir is.
    """

    def __init__(self, run: Run, place: pathlib.Path):
        self.run, self.place = run, place
        self.trainer = Trainer(run, parallel.make_mesh(sizes=run.mesh_sizes))
        self.speed: Speed | None = None  # once measured
        self.state: Any = None  # after some steps

    def findings(self) -> Iterator[Finding]:
        """Yields what is found about a run, each as soon as it is."""
        yield check("step", self.check_step)
        if self.speed:
            yield check("data", self.check_data)
        yield check("checkpoint", self.check_checkpoint)
        yield check("disk", self.check_disk)
        yield check("/dev/shm", self.check_shared_memory)

    def check_step(self) -> Finding:
        """Compiles the step and measures its speed, on one batch."""
        trainer, number = self.trainer, self.run.recipe_at(0)
        batches = trainer.batches(0)
        batch, dataset, state = next(batches), length.stand_in(trainer), trainer.init()
        batches.close()

        def seconds(count: int) -> float:
            nonlocal state
            began = time.monotonic()
            for _ in range(count):
                state, metrics = trainer.advance(number, state, batch, dataset, trainer.key)
            if not np.isfinite(metrics["loss"]):
                raise UserError("the loss of the first steps is not finite: lower optimizer.learning_rate")
            return time.monotonic() - began

        compiling = seconds(1)
        self.speed = Speed(self.run.batch_size / length.seconds_each(seconds, MEASURE / 2))
        self.state = state
        first = f"the first took {compiling:.1f} s"
        return Finding("step", f"{self.speed.steps:,.0f} images/s in steps of {self.run.batch_size}; {first}")

    def check_data(self) -> Finding:
        """Compares the speed of reading with that of steps."""
        run = self.run
        if self.trainer.resident:
            return Finding("data", f"all {len(run.source):,} images are kept on the device: steps wait for no reading")
        batches = itertools.chain.from_iterable(self.trainer.batches(0) for _ in itertools.count())
        next(batches)  # starts what reads ahead
        began, count = time.monotonic(), 0
        while (taken := time.monotonic() - began) < MEASURE:
            next(batches)
            count += 1
        return compare(
            self.speed._replace(reading=run.batch_size * count / taken), run.config.data.workers, os.cpu_count() or 1
        )

    def check_checkpoint(self) -> Finding:
        """Saves a state, reads it back and compares the bits."""
        folder = self.place / SCRATCH
        state = self.trainer.init() if self.state is None else self.state
        try:
            began = time.monotonic()
            with Checkpoints(folder) as checkpoints:
                checkpoints.save(1, state)
                checkpoints.wait()
                saved = time.monotonic() - began
                _, found = checkpoints.restore(self.trainer.abstract)
        except OSError as error:
            raise UserError(f"{folder} cannot be written ({error}); name another --workdir") from error
        finally:
            parallel.wait()
            if jax.process_index() == 0:
                shutil.rmtree(folder, ignore_errors=True)
        advice = "" if same(state, found) else f"{self.place} changes what is saved: name another --workdir"
        mebibytes = size_in_bytes(state) / 2**20
        return Finding("checkpoint", f"{mebibytes:,.1f} MiB saved in {saved:.1f} s, and read back", advice)

    def check_disk(self) -> Finding:
        """Checks that the disk has room for the checkpoints that are kept, the best one and one being written."""
        count = self.run.config.checkpoint.keep + 2
        return check_room(self.place, count, size_in_bytes(self.trainer.abstract), shutil.disk_usage(self.place).free)

    def check_shared_memory(self) -> Finding:
        """Checks that what worker processes read fits into shared memory."""
        check_shared_memory(self.run)
        workers = self.run.config.data.workers
        return Finding("/dev/shm", f"enough for {workers} reading processes" if workers else "not used: data.workers=0")


def compare(speed: Speed, workers: int, cores: int) -> Finding:
    """Returns who waits for whom: steps for data, or reading for steps."""
    seen = f"reading gives {speed.reading:,.0f} images/s, steps take {speed.steps:,.0f}"
    if speed.reading >= speed.steps:
        return Finding("data", f"{seen}: steps do not wait")
    waiting = f"steps wait for data {1 - speed.reading / speed.steps:.0%} of the time"
    more = f"set data.workers={cores} (now {workers})" if workers < cores else "use hosts with more cores"
    return Finding("data", f"{seen}: {waiting}", f"{more}, smaller image files, or data.device_bytes that hold the set")


def check_room(place: pathlib.Path, count: int, each: int, free: int) -> Finding:
    """Checks that `count` checkpoints of `each` bytes fit into the `free` bytes of a disk."""
    seen = f"{free / GIB:,.1f} GiB free in {place}, up to {count} checkpoints take {count * each / GIB:,.2f}"
    return Finding("disk", seen, "make room, or name another --workdir" if count * each > free else "")


def same(one: Any, other: Any) -> bool:
    """Returns whether this process holds the same bits of two states with the same shardings."""

    def shards(state):
        return [np.asarray(shard.data) for x in jax.tree.leaves(state) for shard in x.addressable_shards]

    return all(a.tobytes() == b.tobytes() for a, b in zip(shards(one), shards(other), strict=True))


def main(options) -> None:
    use_cache()
    parallel.keep_freed_memory()
    parallel.start()
    sound = True

    def tell(finding: Finding) -> None:
        nonlocal sound
        sound = sound and not finding.advice
        if jax.process_index() == 0:
            print(finding, flush=True)
        elif finding.advice:
            print(f"process {jax.process_index()}: {finding}", file=sys.stderr, flush=True)

    tell(check("devices", check_devices))
    tell(check("versions", check_versions))
    overrides = options.overrides
    if options.config is None:  # any number of devices divides its batch
        devices = jax.device_count()
        overrides = [("batch_size", str(-(-LEAST_BATCH // devices) * devices)), *overrides]
    name = options.config or "simclr"
    run = build(load(name, overrides), photos=load_for_photos(name, overrides))
    workdir = pathlib.Path(options.workdir).expanduser().resolve()
    place = next(path for path in (workdir, *workdir.parents) if path.is_dir())  # it need not exist yet
    for finding in Trial(run, place).findings():
        tell(finding)
    if not sound:
        sys.exit(1)


def parser() -> command.Parser:
    parser = command.Parser("doctor", __doc__, epilog=EPILOG)
    parser.add_argument("--config", metavar="FILE[:PRESET]", help="a recipe to try; default: a small one")
    parser.add_argument("--workdir", metavar="DIR", default="runs", help="where runs are to live; default: runs/")
    return parser


if __name__ == "__main__":
    command.run(main, parser())
