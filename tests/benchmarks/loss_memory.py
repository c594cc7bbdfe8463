"""Memory of NT-Xent and its gradient, all pairs at once and in tiles: `python tests/benchmarks/loss_memory.py`.

Nothing runs: it is compiled for TPU chips, of which there need be none (install `libtpu` first); figures are those of
one chip.
"""

import argparse
import os
import re

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from ssl_jax import losses, parallel
from ssl_jax.losses import pairs


def temporaries(mesh, images: int, width: int) -> str:
    """MiB of temporaries, which the compiler states too if they do not fit."""
    rows = parallel.batch_sharding(mesh)
    loss = parallel.with_mesh(mesh, jax.value_and_grad(lambda z: losses.nt_xent(z, 0.1)))
    views = jax.ShapeDtypeStruct((images, 2, width), jnp.float32)
    program = jax.jit(loss, in_shardings=rows, out_shardings=(parallel.replicated(mesh), rows)).lower(views)
    try:
        return f"{program.compile().memory_analysis().temp_size_in_bytes / 2**20:,.1f}"
    except jax.errors.JaxRuntimeError as error:
        needed = re.search(r"temporaries \(([\d.]+)G\) exceeds", str(error))
        if not needed:
            raise
        return f"{1024 * float(needed[1]):,.1f} (too many)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", default="v5e:16x16", help="TPU chips to compile for")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[4**power for power in range(6, 11)])
    parser.add_argument("--width", type=int, default=128, help="of the embeddings")
    flags = parser.parse_args()
    mesh = parallel.make_mesh(topologies.get_topology_desc(platform="tpu", topology_name=flags.topology).devices)
    print(f"{mesh.size} chips, MiB of temporaries each\n    batch                 plain      tiled")
    for images in flags.batch_sizes:
        figures = []
        for pairs.PLAIN in (float("inf"), 0):
            figures.append(temporaries(mesh, images, flags.width))
        print("{:9,} {:>21} {:>10}".format(images, *figures), flush=True)


if __name__ == "__main__":
    main()
