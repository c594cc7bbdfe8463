"""Counts what a compiled step costs a device: FLOPs, bytes of its memory, collectives; by part of the step."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ssl_jax.plan import collectives
from ssl_jax.plan.collectives import Collective
from ssl_jax.plan.hlo import Computation, Instruction, Program, Shape
from ssl_jax.plan.parts import PARTS, making_part, moving_part

# These move nothing, or what they move is counted where it happens.
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all"}


class Cost(NamedTuple):
    """What one step costs one device."""

    flops: dict[str, int]  # by part, of products and convolutions
    bytes: dict[str, int]  # by part, read from and written to the memory of the chip
    collectives: list[Collective]


def count(program: Program, devices: int, slices: int = 1) -> Cost:
    """Counts a program of one step.

    Elementwise operations are counted by their bytes alone: they take longer to feed than to compute.

    Args:
        program: the compiled step.
        devices: that run the step.
        slices: that these are of, in order and as many from each.
    """
    flops: Counter = Counter()
    moved: Counter = Counter()
    for one, computation, times, fused in program.walk():
        if one.opcode in ("dot", "convolution"):
            operands = [computation[name].shapes[0] for name in one.operands]
            products = dot if one.opcode == "dot" else convolution
            flops[making_part(program, one, computation)] += times * products(one, *operands)
        if not fused and one.opcode not in FREE and not one.opcode.endswith("-done"):
            moved[moving_part(program, one, computation)] += times * traffic(program, one, computation)
    for one, computation, times, fused, kind in collectives.unique(program):
        if fused and one.opcode == kind:  # beside what the fusion computes, see `overlaps`
            operands = [computation[name].shapes[0] for name in one.operands]
            moved[moving_part(program, one, computation)] += times * off_chip([*operands, *one.shapes])
    return Cost(by_part(flops), by_part(moved), collectives.count(program, devices, slices))


def by_part(counts: Counter) -> dict[str, int]:
    return {name: int(counts[name]) for name in PARTS}


def dot(one: Instruction, left: Shape, right: Shape) -> int:
    """Returns the FLOPs of a product of matrices."""
    found = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", one.text)
    contracted = [left.dims[int(axis)] for axis in found[1].split(",") if axis] if found else []
    return 2 * math.prod(one.shapes[0].dims) * math.prod(contracted)


def convolution(one: Instruction, image: Shape, kernel: Shape) -> int:
    """Returns the FLOPs of a convolution, without products with padding or between dilated places.

    XLA writes products of matrices as convolutions too, batches of them with a dilated window.
    """
    inputs, kernels, outputs = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", one.text).groups()
    window = dict(re.findall(r"(\w+)=([\dx_\-]+)", (re.search(r"window=\{([^}]*)\}", one.text) or ["", ""])[1]))
    result = one.shapes[0]
    pairs = 1
    for axis in range(len(inputs) - 2):
        sizes = image.dims[inputs.index(str(axis))], kernel.dims[kernels.index(str(axis))]
        pairs *= valid_pairs(*sizes, result.dims[outputs.index(str(axis))], window, axis)
    channels = kernel.dims[kernels.index("i")] * result.dims[outputs.index("f")]
    groups = re.search(r"batch_group_count=(\d+)", one.text)
    return 2 * pairs * channels * image.dims[inputs.index("b")] // (int(groups[1]) if groups else 1)


def valid_pairs(size: int, taps: int, places: int, window: dict[str, str], axis: int) -> int:
    """Returns how many pairs of an output and a tap of the kernel meet an element of the input, along one axis."""

    def value(key: str, default: str) -> str:
        return window[key].split("x")[axis] if key in window else default

    stride, dilation, spread = (int(value(key, "1")) for key in ("stride", "rhs_dilate", "lhs_dilate"))
    before = int(value("pad", "0_0").split("_")[0])
    position = np.arange(places)[:, None] * stride + np.arange(taps)[None] * dilation - before
    return int(np.count_nonzero((position >= 0) & (position % spread == 0) & (position // spread < size)))


def traffic(program: Program, one: Instruction, computation: Computation) -> int:
    """Returns the bytes that an instruction which is not fused reads from and writes to the chip's memory."""
    if one.opcode in ("copy-start", "slice-start", "dynamic-slice-start"):  # between the chip's memory and the fast one
        ends = one.shapes[0], one.shapes[len(one.operands)]
        return min(end.bytes for end in ends) * sum(not end.on_chip for end in ends)
    if one.opcode == "recv":
        return off_chip(one.shapes[:1])
    reads = sum(read(program, one, i, computation[name]) for i, name in enumerate(one.operands) if name in computation)
    if one.opcode == "send":
        return reads
    result = one.shapes
    if one.opcode.endswith("-start") and len(result) > 1:  # (operand, result, context ...)
        result = result[1:2]
    root = updated(program, one, computation)
    return reads + (root if root is not None else off_chip(result) - passed_on(program, one))


def off_chip(shapes: Sequence[Shape]) -> int:
    """Returns the bytes of arrays in the chip's memory."""
    return sum(shape.bytes for shape in shapes if not shape.on_chip)


def overlaps(inside: Computation) -> bool:
    """Returns whether a fusion runs while a collective does, of which it takes the arrays and passes them on."""
    return any(x.opcode == collectives.kind_of(x, inside, fused=True) for x in inside.values())


def passed_on(program: Program, one: Instruction) -> int:
    """Returns the bytes of results of a fusion that are those of a collective beside it."""
    if one.opcode != "fusion" or not overlaps(inside := program.computations[one.called[0]]):
        return 0
    root = list(inside.values())[-1]
    made = [inside[name] for name in root.operands] if root.opcode == "tuple" else [root] * len(one.shapes)
    kept = {"parameter", "custom-call", *collectives.KINDS}
    return off_chip([shape for x, shape in zip(made, one.shapes, strict=True) if x.opcode in kept])


def read(program: Program, one: Instruction, position: int, operand: Instruction) -> int:
    """Returns the bytes that an instruction reads of one operand: of one that it only slices, those of the slices."""
    if operand.shapes[0].on_chip or len(operand.shapes) > 1:
        return 0
    whole = operand.shapes[0].bytes
    if one.opcode in ("dynamic-slice", "slice", "gather") and position == 0:
        return one.shapes[0].bytes
    if one.opcode == "dynamic-update-slice" and position == 0:
        return 0
    if one.opcode != "fusion":
        return whole
    inside = program.computations[one.called[0]]
    own = next(x.name for x in inside.values() if x.opcode == "parameter" and x.text.startswith(f"{position})"))
    users = inside.users.get(own, ())
    if overlaps(inside) and all(x.opcode in ("tuple", "custom-call", *collectives.KINDS) for x in users):
        return 0
    if users and all(x.operands[0] == own and x.opcode in SLICED for x in users):
        return min(whole, sum(0 if x.opcode == "dynamic-update-slice" else x.shapes[0].bytes for x in users))
    return whole


SLICED = ("dynamic-slice", "slice", "gather", "dynamic-update-slice")


def updated(program: Program, one: Instruction, computation: Computation) -> int | None:
    """Returns the bytes that an update in place writes; None if an instruction is no update."""
    if one.opcode == "fusion":
        computation = program.computations[one.called[0]]
        one = list(computation.values())[-1]
    if one.opcode != "dynamic-update-slice" or one.shapes[0].on_chip:
        return None
    return computation[one.operands[1]].shapes[0].bytes
