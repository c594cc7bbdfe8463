"""A scan over a transformer's blocks beside a loop that repeats them: `python tests/benchmarks/blocks.py`.

Seconds to compile 12 and 2 blocks, and of forward and backward passes of vit_tiny on 32 pixels, in turns.
"""

import argparse
import statistics
import time
from unittest import mock

import jax
import jax.numpy as jnp

from ssl_jax.networks import ENCODERS, vit
from ssl_jax.networks.transformer import run_blocks


def loop(block, params, x, rates, key=None, remat=False):
    """As `run_blocks`, with all blocks in the program and everything stored; without drop-path."""
    layers = []
    for own in params:
        x = block.apply({"params": own}, x)
        layers.append(x)
    return x, jnp.stack(layers)


def compiled(run, depth: int, images: jax.Array):
    """The gradient's program with its arguments, and the seconds to compile it."""
    model = ENCODERS["vit_tiny"](patch=4, size=32, depth=depth)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    gradient = jax.grad(lambda variables: jnp.square(model.apply(variables, images).pooled).mean())
    start = time.perf_counter()
    with mock.patch.object(vit, "run_blocks", run):
        program = jax.jit(gradient).lower(variables).compile()
    return program, variables, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="passes of which the median counts")
    parser.add_argument("--batch_size", type=int, default=64)
    flags = parser.parse_args()
    images = jax.random.normal(jax.random.key(1), (flags.batch_size, 32, 32, 3))
    ways = {"scan": run_blocks, "loop": loop}
    compiled(loop, 1, images)  # what only the first compilation of a process takes
    programs = {name: [compiled(run, depth, images) for depth in (12, 2)] for name, run in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(flags.rounds + 1):
        for name, ((program, variables, _), _) in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(variables))
            times[name].append(time.perf_counter() - start)
    print("      compile 12 blocks, s  2 blocks, s  temporaries, MiB  median pass, s  fastest pass, s")
    for name, ((program, _, twelve), (_, _, two)) in programs.items():
        size, passes = program.memory_analysis().temp_size_in_bytes / 2**20, times[name][1:]
        print(f"{name} {twelve:22.1f} {two:12.1f} {size:17,.0f} {statistics.median(passes):15.2f} {min(passes):16.2f}")


if __name__ == "__main__":
    main()
