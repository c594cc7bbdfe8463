"""Compiles the step of a run for devices that need not be there, and counts what it costs."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import multiprocessing.connection
import os
import pathlib
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

import ssl_jax
from ssl_jax import data, parallel
from ssl_jax.atomic import replacing
from ssl_jax.build import build
from ssl_jax.errors import UserError
from ssl_jax.monitor.environment import version
from ssl_jax.plan import compiler, cost, hlo
from ssl_jax.plan.collectives import Collective
from ssl_jax.plan.images import UnseenImages
from ssl_jax.plan.topology import Topology, open_topology
from ssl_jax.trainer import Trainer

CACHE = pathlib.Path("~/.cache/ssl_jax/plans")
REPORTED = 15  # seconds between two lines of progress
DEEP = 100  # calls


@dataclasses.dataclass(frozen=True)
class Facts:
    """A compiled step: what does not depend on how fast the devices are. Sizes are in bytes, on one device."""

    topology: str
    chips: int
    devices: int
    batch_size: int
    steps: int
    parameters: int  # that are trained
    peak: int  # memory of arguments, results and temporaries
    arguments: int = 0
    temporaries: int = 0
    donated: int = 0  # arrays of the state
    aliased: int = 0  # of these, how many the new state takes the place of
    flops: Mapping[str, int] = dataclasses.field(
        default_factory=dict
    )  # of a step on a device, by part; none: too large
    bytes: Mapping[str, int] = dataclasses.field(default_factory=dict)  # likewise, read and written
    collectives: tuple[Collective, ...] = ()
    seconds: float = 0.0  # of compilation

    @property
    def share(self) -> float:
        """The part of a chip that is one device: 1/2 on TPUs whose two cores are devices of their own."""
        return self.chips / self.devices

    @classmethod
    def read(cls, text: str) -> "Facts":
        """Returns facts from their JSON."""
        values = json.loads(text)
        return cls(**values | {"collectives": tuple(Collective(*one) for one in values["collectives"])})

    def write(self) -> str:
        """Returns them as JSON."""
        return json.dumps(dataclasses.asdict(self))


def check(config: ConfigDict, images: UnseenImages, topology: Topology) -> None:
    """Checks that a config can be trained on devices, which takes seconds, unless it was compiled for them before.

    Raises:
        UserError: if it cannot.
    """
    if config.mesh.dcn != topology.slices:
        raise UserError(
            f"mesh.dcn is {config.mesh.dcn}, but the slices of --topology={topology.name} are {topology.slices}; set "
            f"--config.mesh.dcn={topology.slices}, or name as many slices, as in --topology=2xv5e:8x8"
        )
    if not kept(config, images, topology).exists():
        build(config, images, images, devices=len(topology.devices))


def measure(config: ConfigDict, images: UnseenImages, topology: Topology) -> Facts:
    """Returns the facts of a config, from the cache if the same program was compiled before.

    Args:
        config: of the run.
        images: to train on.
        topology: the devices.

    Raises:
        UserError: if the config cannot be trained on such devices.
    """
    file = kept(config, images, topology)
    if file.exists():
        return Facts.read(file.read_text())
    facts = (compiled_apart if is_tpu(topology) else compiled)(config, images, topology)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part:
            part.write_text(facts.write())
    except OSError as error:
        print(f"note: this plan is not kept for the next time: {error}", file=sys.stderr)
    return facts


def kept(config: ConfigDict, images: UnseenImages, topology: Topology) -> pathlib.Path:
    """Returns the file of the cache for the facts of a config."""
    return (CACHE / f"{digest(config, images, topology.name)}.json").expanduser()


def digest(config: ConfigDict, images: UnseenImages, topology: str) -> str:
    """Returns a name for a program: of the config, the set, the devices, the source code and the compilers."""
    folder = pathlib.Path(ssl_jax.__file__).parent
    code = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(folder.rglob("*.py"))))
    versions = [version(name) for name in ("jax", "jaxlib", "libtpu")]
    values = [config.to_json(), len(images), len(images.classes or ()), topology, *versions, code.hexdigest()]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:24]


def is_tpu(topology: Topology) -> bool:
    """Returns whether a topology is of TPUs, and so has a compiler of its own."""
    return topology.chip is not None and topology.chip.is_tpu


def compiled_apart(config: ConfigDict, images: UnseenImages, topology: Topology) -> Facts:
    """Returns what `compiled` does, in a process of its own, which ends while XLA still generates code."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=send_facts, args=(sender, config, images, topology.name), daemon=True)
    process.start()
    sender.close()
    try:
        found = receiver.recv()
    except EOFError:
        raise UserError(f"the compilation for {topology.name} ended without a result, see above") from None
    finally:
        process.kill()
        process.join()
    if isinstance(found, UserError):
        raise found
    return found


def send_facts(sender: multiprocessing.connection.Connection, config: ConfigDict, images: UnseenImages, name: str):
    """Sends the facts, or the error of the user, through a pipe."""
    os.environ.pop("XLA_FLAGS", None)  # those of CPUs and GPUs; libtpu ends a process for one that it does not know
    jax.config.update("jax_platforms", "cpu")
    with sender:
        try:
            sender.send(compiled(config, images, open_topology(name)))
        except UserError as error:
            sender.send(error)


def compiled(config: ConfigDict, images: UnseenImages, topology: Topology) -> Facts:
    """Compiles the step that `Trainer` would run, and returns its facts."""
    run = build(config, images, images, devices=len(topology.devices))
    trainer = Trainer(run, parallel.make_mesh(topology.devices, run.mesh_sizes))
    size = {
        "topology": topology.name,
        "chips": topology.chips,
        "devices": len(topology.devices),
        "batch_size": run.batch_size,
        "steps": run.steps,
        "parameters": sum(math.prod(x.shape) for x in jax.tree.leaves(trainer.abstract.params)),
    }
    began = time.monotonic()
    try:
        with deep_stacks(), progress(f"compiles {config.method.name} for {topology.name}"):
            lowered = trainer.programs[-1].lower(*arguments(trainer))
            text, memory = (compiler.compile_without_code if is_tpu(topology) else compiler.compile_whole)(lowered)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        held = sum(map(bytes_per_device, jax.tree.leaves(arguments(trainer))))
        return Facts(**size, peak=compiler.used(str(error)), arguments=held, seconds=time.monotonic() - began)
    program = hlo.parse(text)
    counted = cost.count(program, len(topology.devices), topology.slices)
    if topology.chip and not is_tpu(topology) and config.network.dtype == "bfloat16":
        # The program is compiled for CPUs, where XLA keeps in float32 what a GPU keeps in bfloat16.
        memory = memory._replace(temporaries=memory.temporaries // 2)
        counted.bytes["network"] //= 2
    return Facts(
        **size,
        peak=memory.peak,
        arguments=memory.arguments,
        temporaries=memory.temporaries,
        donated=len(jax.tree.leaves(trainer.abstract)),
        aliased=program.aliased,
        flops=counted.flops,
        bytes=counted.bytes,
        collectives=tuple(counted.collectives),
        seconds=time.monotonic() - began,
    )


def arguments(trainer: Trainer) -> tuple[Any, ...]:
    """Returns the shapes and shardings of what a step takes, for the largest images if their size changes."""
    run, mesh = trainer.run, trainer.mesh

    def placed(tree, sharding):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)

    everywhere = functools.partial(placed, sharding=parallel.replicated(mesh))
    batch, dataset = data.spec(run.source, run.batch_size, run.canvas), None
    if trainer.resident:
        whole = data.spec(run.source, len(run.source), run.canvas)
        dataset = everywhere(jax.eval_shape(data.pack, whole))
        batch = {"index": batch["index"]}
    key = everywhere(jax.eval_shape(jax.random.key, 0))
    return trainer.abstract, placed(batch, parallel.batch_sharding(mesh)), dataset, key


@contextlib.contextmanager
def deep_stacks() -> Iterator[None]:
    """Lets each instruction keep all calls that made it, to say which part of the step it is of."""
    before = jax.config.values["jax_traceback_in_locations_limit"]
    jax.config.update("jax_traceback_in_locations_limit", DEEP)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", before)


def bytes_per_device(argument: jax.ShapeDtypeStruct) -> int:
    """Returns the size of the part of an argument that a device holds."""
    shape = argument.sharding.shard_shape(argument.shape)
    return math.prod(shape) * argument.dtype.itemsize


@contextlib.contextmanager
def progress(what: str) -> Iterator[None]:
    """Prints a line on standard error every few seconds, from a thread, since compilers do not return in between."""
    done, began = threading.Event(), time.monotonic()

    def report() -> None:
        while not done.wait(REPORTED):
            print(f"{what}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
