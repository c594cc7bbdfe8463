"""Times the linear evaluation: a grid of points against a single one, on the same features.

    python tests/benchmarks/linear.py --images=10000 --dim=2048 --classes=10 --epochs=10

Prints the seconds of each, without compilation, and their ratio.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.evaluate.sweep import RECIPES, train


def main():
    parser = argparse.ArgumentParser()
    for name, default in (("images", 10_000), ("dim", 512), ("classes", 10), ("epochs", 10), ("batch", 256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(size=(1, 1, options.images, options.dim)).astype(np.float32))
    labels = jnp.asarray(random.integers(0, options.classes, options.images))
    recipe = RECIPES["grid"]._replace(epochs=options.epochs, batch_size=options.batch)
    seconds = {}
    for points in (1, 64):
        grid = jnp.asarray(np.geomspace(1e-3, 3, points)[:, None] * [[1.0, 1e-5]], jnp.float32)
        for _ in range(2):  # the first compiles
            began = time.perf_counter()
            jax.block_until_ready(train(x, labels, jnp.arange(options.images), grid, recipe, options.classes))
            seconds[points] = time.perf_counter() - began
        print(f"{points} points: {seconds[points]:.2f} s")
    print(f"ratio: {seconds[64] / seconds[1]:.2f}")


if __name__ == "__main__":
    main()
