"""Finds the operation of a program that first makes a number that is not finite.

The program is traced, and compiled anew with the largest magnitude of each intermediate array as a further output.
These tell which operations turned finite numbers into others, and of those only the ones count from which such numbers
reach a result: a `-inf` that a mask hides does no harm. `jax_debug_nans` stops at any NaN, and at no overflow.
"""

import re
import sysconfig
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

# Operations that only call a program, and the parameter that holds it.
CALLS = {
    **dict.fromkeys(("jit", "pjit", "remat2", "checkpoint"), "jaxpr"),
    **dict.fromkeys(("closed_call", "core_call", "custom_jvp_call", "custom_vjp_call"), "call_jaxpr"),
}
LIBRARIES = tuple(package.__path__[0] for package in (jax, flax))
STANDARD = sysconfig.get_path("stdlib")


class Operation(NamedTuple):
    """An operation of a program."""

    name: str  # of the primitive, such as "exp"
    line: str  # of the source, such as "ssl_jax/losses/contrastive.py:31 (nt_xent)"
    scope: str  # modules and transformations around it, such as "transpose(jvp(Network))/encoder"
    inputs: float  # the largest magnitude among its inputs

    def __str__(self):
        names = re.findall(r"[^/()]+", self.scope)
        modules = "/".join(name for name in names if "." not in name and name not in ("jvp", "transpose", "vmap"))
        way = "backward through" if "transpose(" in self.scope else "in"
        place = f"{self.line}, {way} {modules}" if modules else self.line
        return f"{self.name} at {place}; its inputs reach {self.inputs:.3g}"


class Found(NamedTuple):
    """What made the results of a program not finite."""

    first: Operation | None  # made the first infinity or NaN; None if all results are finite
    nan: Operation | None  # made the first NaN, if another one did
    largest: Any  # the largest magnitude of each result, like the results


class Value(NamedTuple):
    """An array, and its number in the order in which arrays are made."""

    array: Any
    number: int


class Node(NamedTuple):
    """One evaluation of an operation."""

    equation: JaxprEqn
    scope: str
    inputs: tuple[int, ...]  # numbers of values
    outputs: tuple[int, ...]


class Tape:
    """Evaluates a program under a trace, and records the magnitudes of all values and what made them.

    Args:
        unrolled: the ids of the scans whose iterations are recorded one by one; another scan is one operation.
    """

    def __init__(self, unrolled: set[int]):
        self.unrolled = unrolled
        self.nodes: list[Node] = []
        self.largest: list[jax.Array] = []

    def value(self, array: Any) -> Value:
        """Numbers an array."""
        inexact = jnp.issubdtype(jnp.result_type(array), jnp.inexact)
        self.largest.append(jnp.max(jnp.abs(array), initial=0).astype(jnp.float32) if inexact else jnp.float32(0))
        return Value(array, len(self.largest) - 1)

    def made(self, equation: JaxprEqn, scope: str, inputs: Sequence[Value], results: Sequence) -> list[Value]:
        """Records one evaluation of an operation."""
        outputs = [self.value(result) for result in results]
        self.nodes.append(Node(equation, scope, tuple(x.number for x in inputs), tuple(x.number for x in outputs)))
        return outputs

    def run(self, closed: ClosedJaxpr, given: Sequence[Value], scope: str = "") -> list[Value]:
        """Evaluates a program."""
        jaxpr = closed.jaxpr
        known = dict(zip(jaxpr.constvars, map(self.value, closed.consts), strict=True))
        known |= zip(jaxpr.invars, given, strict=True)

        def read(atom):
            return self.value(atom.val) if isinstance(atom, Literal) else known[atom]

        for equation in jaxpr.eqns:
            inner = "/".join(filter(None, (scope, str(equation.source_info.name_stack))))
            with equation.ctx.manager:
                results = self.evaluate(equation, list(map(read, equation.invars)), inner)
            known |= zip(equation.outvars, results, strict=True)
        return list(map(read, jaxpr.outvars))

    def evaluate(self, equation: JaxprEqn, inputs: list[Value], scope: str) -> list[Value]:
        """Evaluates an operation."""
        name, params = equation.primitive.name, equation.params
        if name in CALLS:
            called = params[CALLS[name]]
            return self.run(ClosedJaxpr(called, ()) if isinstance(called, Jaxpr) else called, inputs, scope)
        if name == "scan" and id(equation) in self.unrolled:
            return self.unroll(equation, inputs, scope)
        arrays = [x.array for x in inputs]
        results = equation.primitive.bind(*arrays, **equation.primitive.get_bind_params(params))
        return self.made(equation, scope, inputs, results if equation.primitive.multiple_results else [results])

    def unroll(self, equation: JaxprEqn, inputs: list[Value], scope: str) -> list[Value]:
        """Evaluates a scan, each iteration for itself."""
        params = equation.params
        constant = params["num_consts"]
        carried = constant + params["num_carry"]
        carry, rows = inputs[constant:carried], []
        order = range(params["length"])[:: -1 if params["reverse"] else 1]
        for i in order:
            row = [self.made(equation, scope, [x], [x.array[i]])[0] for x in inputs[carried:]]
            results = self.run(params["jaxpr"], [*inputs[:constant], *carry, *row], scope)
            carry = results[: len(carry)]
            rows.append(results[len(carry) :])
        columns = zip(*(row for _, row in sorted(zip(order, rows, strict=True), key=lambda pair: pair[0])), strict=True)
        stacks = [self.made(equation, scope, column, [jnp.stack([x.array for x in column])]) for column in columns]
        return [*carry, *(stack for (stack,) in stacks)]


def find(program: Callable, *args: Any) -> Found:
    """Runs a program, and finds what first made its results not finite.

    Args:
        program: a function that JAX can trace.
        args: its arguments.
    """
    closed, shapes = jax.make_jaxpr(program, return_shape=True)(*args)
    leaves, treedef = jax.tree.leaves(args), jax.tree.structure(shapes)
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None  # it runs once
    unrolled: set[int] = set()
    while True:
        tape = Tape(unrolled)
        results: list[Value] = []

        def recorded(*arrays, tape=tape, results=results):
            results += tape.run(closed, [tape.value(array) for array in arrays])
            return tape.largest

        largest = np.asarray(jax.device_get(jax.jit(recorded, compiler_options=options)(*leaves)))
        outputs = [x.number for x in results]
        nodes = [origin(tape.nodes, bad, outputs) for bad in (~np.isfinite(largest), np.isnan(largest))]
        scans = {id(node.equation) for node in nodes if node and node.equation.primitive.name == "scan"} - unrolled
        if not scans:
            first, nan = (operation(node, largest) if node else None for node in nodes)
            return Found(first, nan if nan != first else None, jax.tree.unflatten(treedef, largest[outputs]))
        unrolled |= scans


def origin(nodes: Sequence[Node], bad: np.ndarray, outputs: Sequence[int]) -> Node | None:
    """Returns the first operation that made a bad value from good ones, and from which bad values reach an output.

    Args:
        nodes: all operations, in order.
        bad: bool, of all values.
        outputs: the numbers of the values that count.
    """
    origins: dict[int, int] = {}  # of a bad value: the position of the operation from which it is bad
    for position, node in enumerate(nodes):
        before = [origins[number] for number in node.inputs if number in origins]
        for number in node.outputs:
            if bad[number]:
                origins[number] = min(before, default=position)
    found = [origins[number] for number in outputs if number in origins]
    return nodes[min(found)] if found else None


def operation(node: Node, largest: np.ndarray) -> Operation:
    """Describes the operation of a node."""
    equation = node.equation
    traceback: Any = equation.source_info.traceback
    mine = (frame for frame in (traceback.frames if traceback else ()) if is_mine(frame.file_name))
    line = next((f"{frame.file_name}:{frame.line_num} ({frame.function_name})" for frame in mine), "an unknown line")
    return Operation(equation.primitive.name, line, node.scope, float(largest[list(node.inputs)].max(initial=0)))


def is_mine(file: str) -> bool:
    """Returns whether a line of this file says where in the program an operation is."""
    return not file.startswith(LIBRARIES) and (not file.startswith(STANDARD) or "site-packages" in file)
