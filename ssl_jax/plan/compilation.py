"""Compiles the step of a run for devices that need not be there, and counts what it costs."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import pathlib
import re
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
from ssl_jax.monitor.environment import version
from ssl_jax.plan import cost, hlo
from ssl_jax.plan.images import UnseenImages
from ssl_jax.plan.topology import Topology
from ssl_jax.train import Trainer

CACHE = pathlib.Path("~/.cache/ssl_jax/plans")
REPORTED = 15  # seconds between two lines of progress
DEEP = 100  # calls
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


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
    collectives: tuple[cost.Collective, ...] = ()
    seconds: float = 0.0  # of compilation

    @property
    def share(self) -> float:
        """The part of a chip that is one device: 1/2 on TPUs whose two cores are devices of their own."""
        return self.chips / self.devices

    @classmethod
    def read(cls, text: str) -> "Facts":
        """Returns facts from their JSON."""
        values = json.loads(text)
        return cls(**values | {"collectives": tuple(cost.Collective(*one) for one in values["collectives"])})

    def write(self) -> str:
        """Returns them as JSON."""
        return json.dumps(dataclasses.asdict(self))


def measure(config: ConfigDict, images: UnseenImages, topology: Topology) -> Facts:
    """Returns the facts of a config, from the cache if the same program was compiled before.

    Args:
        config: of the run.
        images: to train on.
        topology: the devices.

    Raises:
        UserError: if the config cannot be trained on such devices.
    """
    file = (CACHE / f"{digest(config, images, topology.name)}.json").expanduser()
    if file.exists():
        return Facts.read(file.read_text())
    facts = compiled(config, images, topology)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part:
        part.write_text(facts.write())
    return facts


def digest(config: ConfigDict, images: UnseenImages, topology: str) -> str:
    """Returns a name for a program: of the config, the set, the devices, the source code and the compilers."""
    folder = pathlib.Path(ssl_jax.__file__).parent
    code = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(folder.rglob("*.py"))))
    versions = [version(name) for name in ("jax", "jaxlib", "libtpu")]
    values = [config.to_json(), len(images), len(images.classes or ()), topology, *versions, code.hexdigest()]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:24]


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
            program = trainer.programs[-1].lower(*arguments(trainer)).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Facts(**size, peak=used(str(error)), seconds=time.monotonic() - began)
    memory, text = program.memory_analysis(), hlo.parse(program.as_text())
    counted = cost.count(text, len(topology.devices), run.mesh_sizes.dcn)
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    temporaries = memory.temp_size_in_bytes
    if topology.chip and not topology.chip.is_tpu and config.network.dtype == "bfloat16":
        # The program is compiled for CPUs, where XLA keeps in float32 what a GPU keeps in bfloat16.
        temporaries //= 2
        counted.bytes["network"] //= 2
    return Facts(
        **size,
        peak=held + temporaries + memory.generated_code_size_in_bytes,
        arguments=memory.argument_size_in_bytes,
        temporaries=temporaries,
        donated=len(jax.tree.leaves(trainer.abstract)),
        aliased=text.aliased,
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
        dataset = everywhere({name: array for name, array in whole.items() if name != "index"})
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


def used(message: str) -> int:
    """Returns the memory that a program would need, by the error of a compiler that refused it; 0 if it is not said."""
    found = re.search(r"Used ([\d.]+)([KMG]) of", message)
    return int(float(found[1]) * UNITS[found[2]]) if found else 0


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
