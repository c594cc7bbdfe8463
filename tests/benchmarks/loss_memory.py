"""Memory of NT-Xent and its gradient, all pairs at once and in tiles: `python tests/benchmarks/loss_memory.py`.

Nothing runs: it is compiled for TPU chips, of which there need be none (install `libtpu` first); figures are those of
one chip. With `--seconds` it runs here, and is timed.
"""

import argparse
import os
import re
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies

from ssl_jax import losses, parallel
from ssl_jax.losses import pairs


def compiled(mesh, views):
    """NT-Xent of views [B, 2, D] and its gradient."""
    rows = parallel.batch_sharding(mesh)
    loss = parallel.with_mesh(mesh, jax.value_and_grad(lambda z: losses.nt_xent(z, 0.1)))
    return jax.jit(loss, in_shardings=rows, out_shardings=(parallel.replicated(mesh), rows)).lower(views).compile()


def temporaries(mesh, images: int, width: int) -> str:
    """MiB of temporaries, which the compiler states too if they do not fit."""
    try:
        program = compiled(mesh, jax.ShapeDtypeStruct((images, 2, width), jnp.float32))
        return f"{program.memory_analysis().temp_size_in_bytes / 2**20:,.1f}"
    except jax.errors.JaxRuntimeError as error:
        needed = re.search(r"temporaries \(([\d.]+)G\) exceeds", str(error))
        if not needed:
            raise
        return f"{1024 * float(needed[1]):,.1f} (too many)"


def seconds(mesh, images: int, width: int) -> str:
    """Seconds of a call, the best of three."""
    made = np.random.default_rng(0).normal(size=(images, 2, width)).astype(np.float32)
    views = parallel.scatter(mesh, {"views": made})["views"]
    program, times = compiled(mesh, views), []
    for _ in range(3):
        began = time.monotonic()
        jax.block_until_ready(program(views))
        times.append(time.monotonic() - began)
    return f"{min(times):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", default="v5e:16x16", help="TPU chips to compile for")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[4**power for power in range(6, 11)])
    parser.add_argument("--width", type=int, default=128, help="of the embeddings")
    parser.add_argument("--seconds", action="store_true", help="run it on the devices of this machine")
    flags = parser.parse_args()
    if flags.seconds:
        mesh, measure, what = parallel.make_mesh(), seconds, "seconds"
    else:
        chips = topologies.get_topology_desc(platform="tpu", topology_name=flags.topology).devices
        mesh, measure, what = parallel.make_mesh(chips), temporaries, "MiB of temporaries on each"
    print(f"{mesh.size} chips, {what}\n    batch                 plain      tiled")
    for images in flags.batch_sizes:
        figures = []
        for pairs.PLAIN in (float("inf"), 0):
            figures.append(measure(mesh, images, flags.width))
        print("{:9,} {:>21} {:>10}".format(images, *figures), flush=True)


if __name__ == "__main__":
    main()
