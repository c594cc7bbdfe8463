"""Reads the text of a compiled XLA program: computations, instructions, shapes, and the source of each."""

import functools
import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.+?) ([a-z][a-z0-9\-]*)\((.*)$")
SHAPE = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](\{[^{}]*\})?")
NAME = re.compile(r"%([\w.\-]+)")
ROW = re.compile(r"^(\d+) (.*)$")
TABLES = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
CALLS = ("fusion", "call", "while", "conditional", "async-start")
CALLED = re.compile(r"(?:calls|to_apply|body|branch_computations|true_computation|false_computation)=\{?([^,}]+)")


class Shape(NamedTuple):
    """An array of a program, on one device."""

    dtype: str
    dims: tuple[int, ...]
    on_chip: bool = False  # in the fast memory beside the arithmetic (XLA's memory space 1), not in the chip's memory

    @property
    def bytes(self) -> int:
        """Its size, without padding."""
        bits = re.search(r"\d+", self.dtype)
        width = 1 if self.dtype == "pred" else int(bits[0]) / 8 if bits else 0  # tokens take nothing
        return math.ceil(math.prod(self.dims) * width)


class Instruction(NamedTuple):
    """One operation of a computation."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]  # of the result, several of a tuple
    operands: tuple[str, ...]  # names of instructions of the same computation
    text: str  # of operands and attributes

    @property
    def op_name(self) -> str:
        """The path of the JAX operation that it is from, as in "jit(program)/jvp(Network)/.../dot_general"."""
        found = re.search(r'op_name="([^"]*)"', self.text)
        return found[1] if found else ""

    @property
    def called(self) -> list[str]:
        """The computations that it runs."""
        found = re.search(r"branch_computations=\{([^}]*)\}", self.text)
        return NAME.findall(found[1]) if found else [name.strip("% ") for name in CALLED.findall(self.text)]


class Computation(dict[str, Instruction]):
    """Instructions by name, in the order in which they run."""

    caller: "tuple[Instruction, Computation] | None" = None  # one that runs it, and where that is

    @functools.cached_property
    def users(self) -> Mapping[str, list[Instruction]]:
        """The instructions that take each result."""
        found: dict[str, list[Instruction]] = {}
        for one in self.values():
            for name in one.operands:
                found.setdefault(name, []).append(one)
        return found


class Source(NamedTuple):
    """A place in the source code."""

    file: str
    function: str


class Program(NamedTuple):
    """A compiled program."""

    computations: Mapping[str, Computation]
    entry: str
    tables: Mapping[str, Mapping[int, str]]  # the tables of files, functions, locations and stack frames
    aliased: int  # outputs that take the place of a donated argument
    partitions: int  # devices that it is written for; 0: it does not say

    def stack(self, instruction: Instruction) -> list[Source]:
        """Returns the calls that made an instruction, innermost first; empty if XLA made it."""
        found = re.search(r"stack_frame_id=(\d+)", instruction.text)
        frames, places = self.tables["StackFrames"], []
        # Parents are counted from 1 or from 0, by the version of XLA: the first frame has none.
        shift = number(frames.get(1, ""), "parent_frame_id")
        frame = int(found[1]) if found else 0
        while frame in frames:
            location = self.tables["FileLocations"][number(frames[frame], "file_location_id")]
            file = self.tables["FileNames"][number(location, "file_name_id")].strip('"')
            function = self.tables["FunctionNames"][number(location, "function_name_id")].strip('"')
            places.append(Source(file, function))
            frame = number(frames[frame], "parent_frame_id") - shift
        return places

    def trips(self, loop: Instruction) -> int:
        """Returns how often a loop runs its body: as XLA says, or the constant to which its condition compares."""
        if found := re.search(r"known_trip_count\D*(\d+)", loop.text):
            return int(found[1])
        condition = self.computations[re.search(r"condition=%?([\w.\-]+)", loop.text)[1]].values()
        limits = [int(one.text.partition(")")[0]) for one in condition if is_count(one)]
        return limits[0] if len(limits) == 1 else 1

    def walk(self, name: str = "", times: int = 1, fused: bool = False) -> Iterator[tuple]:
        """Yields (instruction, its computation, how often it runs, whether it is inside a fusion) of a usual step.

        Of a condition's two branches the shorter one is taken: a clustering is not due at most steps.
        """
        computation = self.computations[name or self.entry]
        for one in computation.values():
            yield one, computation, times, fused
            if one.opcode in CALLS:
                runs = times * self.trips(one) if one.opcode == "while" else times
                either = one.opcode == "conditional" and len(one.called) == 2
                for called in [min(one.called, key=self.length)] if either else one.called:
                    yield from self.walk(called, runs, fused or one.opcode == "fusion")

    def length(self, name: str) -> int:
        """Returns how many instructions a computation has, with those that it calls."""
        return sum(1 for _ in self.walk(name))


def is_count(one: Instruction) -> bool:
    """Returns whether an instruction is a constant integer."""
    return one.opcode == "constant" and one.shapes[0].dims == () and one.shapes[0].dtype in ("s32", "s64", "u32")


@functools.cache
def number(text: str, key: str) -> int:
    """Returns the number of a key in a row such as `{file_location_id=3 parent_frame_id=2}`; 0 if it is missing."""
    found = re.search(rf"{key}=(\d+)", text)
    return int(found[1]) if found else 0


def parse(text: str) -> Program:
    """Reads what `Compiled.as_text()` returns, or XLA dumps."""
    tables: dict[str, dict[int, str]] = {name: {} for name in TABLES}
    computations: dict[str, Computation] = {}
    table, entry, current = "", "", None
    for line in text.splitlines():
        if line in TABLES:
            table = line
        elif table and (row := ROW.match(line)):
            tables[table][int(row[1])] = row[2]
        elif current is not None and (found := INSTRUCTION.match(line)):
            name, result, opcode, rest = found.groups()
            operands = tuple(NAME.findall(rest.partition(")")[0]))
            current[name] = Instruction(name, opcode, shapes(result), operands, rest)
        elif header := HEADER.match(line):
            table, current = "", computations.setdefault(header[2], Computation())
            entry = header[2] if header[1] else entry
    for computation in computations.values():
        computation.update({name: named(one, computations) for name, one in computation.items()})
        for one in computation.values():
            for called in one.called if one.opcode in CALLS else ():
                computations[called].caller = one, computation
    first = text.partition("\n")[0]
    aliased = len(re.findall(r"(?:may|must)-alias", first))
    return Program(computations, entry, tables, aliased, number(first, "num_partitions"))


def named(one: Instruction, computations: Mapping[str, Computation]) -> Instruction:
    """Returns an asynchronous operation that XLA dumps as a computation as `as_text` writes it, such as slice-start."""
    if one.opcode != "async-start":
        return one
    inside = list(computations[one.called[0]].values())[-1]
    if inside.opcode in ("fusion", "call"):
        return one
    return one._replace(opcode=f"{inside.opcode}-start", text=f"{one.text} {inside.text}")


def shapes(text: str) -> tuple[Shape, ...]:
    """Returns the shapes of a result, as in "f32[8,128]{1,0:T(8,128)S(1)}", or of a tuple of them."""
    return tuple(
        Shape(dtype, tuple(int(size.strip("<=")) for size in dims.split(",") if size), "S(1)" in layout)
        for dtype, dims, layout in SHAPE.findall(text)
    )
