"""Times the linear evaluation: a grid of points against a single one, on the same features.

    python tests/benchmarks/linear.py --images=10000 --dim=512 --classes=10 --epochs=4

Prints the CPU milliseconds a step of each without compilation, those of the products of matrices alone, and the ratio.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.evaluate.sweep import RECIPES, train


def milliseconds(function, *arguments) -> float:
    """Returns the least CPU time of two calls, after one that compiles."""
    spent = []
    for _ in range(3):
        began = time.process_time()
        jax.block_until_ready(function(*arguments))
        spent.append(1e3 * (time.process_time() - began))
    return min(spent[1:])


@jax.jit
def products(x, kernel, batches):
    """Computes the logits and a gradient of the shape of theirs for each batch, and nothing else."""

    def step(kernel, rows):
        return kernel - 1e-9 * (x[rows].T @ (x[rows] @ kernel)), None

    return jax.lax.scan(step, kernel, batches)[0]


def main():
    parser = argparse.ArgumentParser()
    for name, default in (("images", 10_000), ("dim", 512), ("classes", 10), ("epochs", 4), ("batch", 256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(size=(options.images, options.dim)).astype(np.float32))
    labels, rows = jnp.asarray(random.integers(0, options.classes, options.images)), jnp.arange(options.images)
    recipe = RECIPES["grid"]._replace(epochs=options.epochs, batch_size=options.batch)
    steps = options.epochs * (options.images // options.batch)
    batches = jnp.asarray(random.integers(0, options.images, (steps, options.batch)))
    spent = {}
    for points in (1, 64):
        grid = jnp.asarray(np.geomspace(1e-3, 3, points)[:, None] * [[1.0, 1e-5]], jnp.float32)
        spent[points] = milliseconds(train, x[None, None], labels, rows, grid, recipe, options.classes) / steps
        alone = milliseconds(products, x, jnp.zeros((options.dim, points * options.classes)), batches) / steps
        print(f"{points} points: {spent[points]:.2f} ms a step, the products alone {alone:.2f}", flush=True)
    print(f"ratio: {spent[64] / spent[1]:.1f}")


if __name__ == "__main__":
    main()
