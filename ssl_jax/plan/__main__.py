"""The command: `python -m ssl_jax.plan --config=FILE[:preset] --topology=v5e:16x16`."""

import json
import os
import sys

import jax

from ssl_jax import command
from ssl_jax.errors import UserError
from ssl_jax.plan import page, topology

EXAMPLES = """
topologies:
  v5e:16x16    a TPU slice; also v2, v3, v4, v5p, v6e and tpu7x, as in v4:4x4x4; needs pip install 'ssl_jax[plan]'
  h200:8       GPUs (a100, h100, h200): an estimate, by the program of CPUs and the peaks of the GPU
  cpu:8        virtual CPU devices: what each holds and computes, without times
  2xv5e:16x16  two slices, 2xh200:8 two nodes; set --config.mesh.dcn=2, as for the run

examples:
  python -m ssl_jax.plan --config=configs/byol.py:imagenet --topology=v5e:16x16
  python -m ssl_jax.plan --config=simclr:imagenet --topology=v5e:8x8,v4:4x4x4 --config.batch_size=1024
  python -m ssl_jax.plan --all --topology=v5e:8x8 --out=docs      a row of docs/plans.md for the recipe of each paper
"""


def main(options) -> None:
    if bool(options.config) == options.all:
        raise UserError("name one run to plan, as in --config=byol:imagenet, or set --all")
    if options.all and (options.out is None or any((options.overrides, options.json, options.images, options.classes))):
        raise UserError("--all takes recipes as they are and adds rows to a folder; set only that, as in --out=docs")
    out = command.writable_folder(options.out) if options.out else None
    if out:
        page.rows(out)
    names = [name for text in options.topology for name in text.split(",")]
    use_virtual_devices(topology.virtual_devices(names))
    from ssl_jax.plan import plans, table  # devices are counted once they are imported

    topologies = [topology.open_topology(name) for name in names]
    if options.all:
        plans.fill(out, topologies)
        return
    found = plans.plan(options.config, topologies, options.overrides, options.images, options.classes)
    for one in found:
        if out:
            page.add(out, plans.as_json(one))
    print(json.dumps([plans.as_json(one) for one in found], indent=1) if options.json else table.table(found))
    for line in (line for one in found for line in [*table.trust(one), *table.advice(one)]):
        print(line, file=sys.stderr if options.json else sys.stdout)


def use_virtual_devices(count: int) -> None:
    """Makes JAX use the CPU only, as so many devices, unless XLA_FLAGS says how many."""
    jax.config.update("jax_platforms", "cpu")
    if count and "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", count)


def parser() -> command.Parser:
    description = "Compiles the step of a run for devices that need not be there, and prints what it costs."
    parser = command.Parser("plan", description, epilog=EXAMPLES)
    recipe = "a recipe, such as byol:imagenet; --config.KEY=VALUE changes it"
    devices = "the devices, see below; several with commas, a column for each"
    parser.add_argument("--config", metavar="FILE[:PRESET]", help=recipe)
    parser.add_argument("--topology", required=True, action="append", metavar="KIND:SHAPE", help=devices)
    parser.add_argument("--images", type=int, metavar="N", help="how many to train on, of a set that is not known here")
    parser.add_argument("--classes", type=int, metavar="N", help="how many these have; 0: no labels")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    parser.add_argument("--out", metavar="FOLDER", help="also add the rows to plans.json and plans.md there")
    parser.add_argument("--all", action="store_true", help="plan the recipe of each paper that the folder lacks")
    return parser


if __name__ == "__main__":
    command.run(main, parser())
