"""What the devices of a step send each other, within a slice and between slices, and what needs it."""

import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from typing import NamedTuple

from ssl_jax.plan.groups import groups
from ssl_jax.plan.hlo import Computation, Instruction, Program
from ssl_jax.plan.parts import part

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# The program of a TPU is that of one slice: it sends to the others through its host, by `send`.
BETWEEN = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
KINDS_BETWEEN = {
    "ALL_REDUCE": "all-reduce",
    "ALL_GATHER": "all-gather",
    "REDUCE_SCATTER": "reduce-scatter",
    "ALL_TO_ALL": "all-to-all",
    "ONE_TO_ONE": "collective-permute",
}


class Collective(NamedTuple):
    """Collectives of one kind and origin in a step."""

    kind: str
    origin: str  # BatchNorm, gradients, Sinkhorn, or the part of the step
    group: int  # devices that take part in each
    number: int
    bytes: int  # of all results together, on one device; of a reduce-scatter, of its inputs
    slices: int = 1  # that the devices of a group are in, as many in each


class Sent(NamedTuple):
    """Bytes that a device sends."""

    within: float  # its slice
    between: float  # slices


def sent(one: Collective) -> Sent:
    """Returns what a device sends at least, as in a ring (Patarasuk & Yuan 2009, doi:10.1016/j.jpdc.2008.09.002).

    What crosses between slices goes in steps, as XLA does it for TPUs: each device of a slice sums a share of the array
    over its slice, exchanges it with the devices of other slices that have the same, and the slice gathers all shares.
    """
    own = one.group // one.slices  # devices of a slice
    if one.kind == "collective-permute":
        return Sent(one.bytes * (own > 1), one.bytes * (one.slices > 1))
    if one.kind == "all-to-all":
        return Sent(one.bytes * (own - 1) / one.group, one.bytes * (one.slices - 1) / one.slices)
    times = 2 if one.kind == "all-reduce" else 1
    share = one.bytes / own
    return Sent(times * share * (own - 1), times * share * (one.slices - 1) / one.slices)


def count(program: Program, devices: int, slices: int = 1) -> list[Collective]:
    """Counts the collectives of a step, those of the most bytes first; see `cost.count`."""
    counted: dict = defaultdict(lambda: [0, 0])
    for one, computation, times, _, kind in unique(program):
        group = members(program, one, kind, devices, slices)
        sizes: Counter = Counter()
        for source, size in results(program, one, computation, kind):
            sizes[source] += times * size * (slices if one.opcode == "send" and kind == "all-gather" else 1)
        for source, size in sizes.most_common():  # one that serves several is counted for the largest
            total = counted[kind, source, group]
            total[0] += times * (source == sizes.most_common(1)[0][0])
            total[1] += size
    found = [
        Collective(kind, source, group, number, size, across)
        for (kind, source, (group, across)), (number, size) in counted.items()
    ]
    return sorted(found, key=lambda one: -one.bytes)


def unique(program: Program) -> Iterator[tuple[Instruction, Computation, int, bool, str]]:
    """Yields the collectives of `Program.walk`, each once, with their kinds.

    A TPU's asynchronous ones are in several fusions.
    """
    seen = set()
    for one, computation, times, fused in program.walk():
        if kind := kind_of(one, computation, fused):
            channel = re.search(r"channel_id=(\d+)", one.text)
            if channel is None or (kind, channel[1]) not in seen:
                seen |= {(kind, channel[1])} if channel else set()
                yield one, computation, times, fused, kind


def kind_of(one: Instruction, computation: Computation, fused: bool) -> str:
    """Returns the kind of collective that an instruction is or starts; "" if it is none."""
    if one.opcode == "send" and (found := BETWEEN.search(one.text)):
        return KINDS_BETWEEN[found[1]]
    if fused and one.opcode == "all-reduce":  # of which a TPU keeps a share only
        users = computation.users.get(one.name, [])
        if [user.opcode for user in users] == ["dynamic-slice"] and users[0] is list(computation.values())[-1]:
            return "reduce-scatter"
    name = one.opcode.removesuffix("-start")
    return name if name in KINDS else ""


def members(program: Program, one: Instruction, kind: str, devices: int, slices: int) -> tuple[int, int]:
    """Returns how many devices take part in a collective, and in how many slices they are."""
    if one.opcode == "send":
        return slices, slices
    together = groups(one.text, program.partitions or devices)
    across = max(len(set(group)) for group in (together // (devices // slices)).tolist())
    return together.size if kind == "collective-permute" else together.shape[1], across


def results(program: Program, one: Instruction, computation: Computation, kind: str) -> list[tuple[str, int]]:
    """Returns (origin, bytes) of each array that a collective combines."""
    arrays = list(one.shapes)
    if one.opcode == "send":  # (what is sent, context, token)
        arrays = arrays[:1]
    elif one.opcode in ("all-gather-start", "collective-permute-start"):
        arrays = arrays[1:2]
    elif kind == "reduce-scatter":
        arrays = [computation[name].shapes[0] for name in one.operands]
    takers = {}
    for user in computation.users.get(one.name, ()):  # what takes an element says where that element is from
        if user.opcode == "get-tuple-element":
            takers[element(user)] = user
    sources = [source(takers.get(i, one), computation, i) for i in range(len(arrays))]
    return [(origin(program, found), array.bytes) for found, array in zip(sources, arrays, strict=True)]


def source(one: Instruction, computation: Computation, index: int) -> Instruction:
    """Returns the nearest instruction with a name of JAX that an element of a collective's result is made of.

    XLA gives no names to the collectives into which it splits one between slices.
    """
    found, seen = deque([(one, computation, index)]), set()
    while found:
        earlier, inside, index = found.popleft()
        if earlier.op_name:
            return earlier
        if earlier.name not in seen:
            found.extend(made_of(earlier, inside, index))
        seen.add(earlier.name)
    return one


def made_of(one: Instruction, computation: Computation, index: int) -> list[tuple[Instruction, Computation, int]]:
    """Returns what an element of an instruction's result is made of: instructions, where they are, which elements."""
    names = one.operands
    if one.opcode == "parameter" and computation.caller:
        place = int(one.text.partition(")")[0])
        caller, computation = computation.caller
        names = caller.operands[place : place + 1]
    elif one.opcode == "get-tuple-element":
        index = element(one)
    elif one.opcode == "recv":  # of what is sent meanwhile
        names = tuple(user.name for user in computation.users[one.operands[0]] if user.opcode == "send")
    elif one.opcode in ("tuple", *KINDS):
        names, index = names[index : index + 1], 0
    arrays = [computation[name] for name in names]
    return [(array, computation, index) for array in arrays if any(len(shape.dims) for shape in array.shapes)]


def element(one: Instruction) -> int:
    """Returns which element of a tuple a get-tuple-element takes."""
    return int(re.search(r"index=(\d+)", one.text)[1])


def origin(program: Program, one: Instruction) -> str:
    """Returns what needs a collective."""
    if any(place.function.endswith("sinkhorn") for place in program.stack(one)):
        return "Sinkhorn"
    if "moments" in one.op_name:
        return "BatchNorm"
    name = part(program, one)
    backward = "transpose(" in one.op_name
    if backward and name == "network" and "norm" in one.op_name.rpartition("/")[0].rpartition("/")[2]:
        return "BatchNorm"
    return "gradients" if backward and name == "network" else name
