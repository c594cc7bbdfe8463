"""A transformer's blocks as one loop beside one after the other: `python tests/benchmarks/blocks.py`.

Seconds to compile 12 and 2 blocks, and of forward and backward passes of vit_tiny on 32 pixels, in turns.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp

from ssl_jax.networks import ENCODERS


def compiled(scan: bool, depth: int, images: jax.Array):
    """The gradient's program with its arguments, and the seconds to compile it."""
    model = ENCODERS["vit_tiny"](patch=4, size=32, depth=depth, scan_blocks=scan)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    gradient = jax.grad(lambda variables: jnp.square(model.apply(variables, images).pooled).mean())
    start = time.perf_counter()
    program = jax.jit(gradient).lower(variables).compile()
    return program, variables, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="passes of which the median counts")
    parser.add_argument("--batch_size", type=int, default=64)
    flags = parser.parse_args()
    images = jax.random.normal(jax.random.key(1), (flags.batch_size, 32, 32, 3))
    ways = {"one loop": True, "unrolled": False}
    compiled(False, 1, images)  # what only the first compilation of a process takes
    programs = {name: [compiled(scan, depth, images) for depth in (12, 2)] for name, scan in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(flags.rounds + 1):
        for name, ((program, variables, _), _) in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(variables))
            times[name].append(time.perf_counter() - start)
    print("         compile 12 blocks, s  2 blocks, s  temporaries, MiB  median pass, s  fastest pass, s")
    for name, ((program, _, twelve), (_, _, two)) in programs.items():
        size, passes = program.memory_analysis().temp_size_in_bytes / 2**20, times[name][1:]
        print(f"{name} {twelve:22.1f} {two:12.1f} {size:17,.0f} {statistics.median(passes):15.2f} {min(passes):16.2f}")


if __name__ == "__main__":
    main()
