"""Memory of SimCLR's compiled step with the batch in chunks: `python tests/benchmarks/memory.py`.

Nothing runs. With `--topology v5p:2x2x1` and so on it is compiled for such TPU chips, of which there need be none
(install `libtpu` first); figures are those of one chip.
"""

import argparse
import os
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from ssl_jax import parallel
from ssl_jax.augment import Views
from ssl_jax.method import initialize
from ssl_jax.methods.simclr import SimCLR
from ssl_jax.networks import build


def compiled(flags, mesh, options: dict):
    """The program from parameters and views to the loss and its gradient."""
    encoder: dict = {"name": flags.encoder}
    if flags.encoder.startswith("vit"):
        encoder |= {"size": flags.size, "scan_blocks": bool(flags.topology)}  # as a TPU runs it, and as a CPU
    network = build({"encoder": encoder, "projector": {"output": 128, "norm": "layer"}, "dtype": "bfloat16"} | options)
    method = SimCLR(network)
    views = jax.ShapeDtypeStruct((flags.batch_size, 2, flags.size, flags.size, 3), jnp.bfloat16)
    shapes = jax.eval_shape(lambda x: initialize(network, jax.random.key(0), Views([x])), views)[0]

    def loss(params, views):
        batch = {"views": Views([views])}
        return method.loss({"network": params}, method.State({}), batch, jax.random.key(0), 0).loss

    places = parallel.replicated(mesh), parallel.batch_sharding(mesh)
    program = jax.jit(parallel.with_mesh(mesh, jax.value_and_grad(loss)), in_shardings=places, out_shardings=places[0])
    return program.lower(shapes.params, views).compile()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", default="", help="TPU chips to compile for; empty: one CPU")
    parser.add_argument("--encoder", default="vit_small")
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--batch_size", type=int, default=1024, help="images, with two views each")
    parser.add_argument("--chunks", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--remat", action="store_true", help="add a row with remat and one chunk")
    flags = parser.parse_args()
    devices = (
        topologies.get_topology_desc(platform="tpu", topology_name=flags.topology).devices
        if flags.topology
        else (jax.devices()[:1])
    )
    mesh = parallel.make_mesh(devices)
    rows = [{"chunks": chunks} for chunks in flags.chunks] + [{"remat": True}] * flags.remat
    print(f"{mesh.size} x {devices[0].device_kind}\noptions          temporaries, GiB  compile, s")
    for options in rows:
        start = time.perf_counter()
        program = compiled(flags, mesh, options)
        seconds = time.perf_counter() - start
        size = program.memory_analysis().temp_size_in_bytes / 2**30
        name = " ".join(f"{key}={value}" for key, value in options.items())
        print(f"{name:16} {size:16.2f} {seconds:11.0f}", flush=True)


if __name__ == "__main__":
    main()
