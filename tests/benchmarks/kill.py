"""Kills a run a hundred times in a row at random moments: `python tests/benchmarks/kill.py [--kills=100] [--seed=0]`.

A third of the kills hit the start, a third the steps, a third a checkpoint that is being written. After each, all that
was saved completely is there and good, and the next start goes on from it; in the end the state and the metrics are
those of a run that was never killed, to the bit. Prints a line for each kill.
"""

import argparse
import os
import pathlib
import sys
import tempfile

sys.path.extend(str(folder) for folder in pathlib.Path(__file__).resolve().parents[1:3])
os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}

import killing
import numpy as np

EVERY = 3  # steps between two saves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=6, help="the largest number of steps between two kills")
    flags = parser.parse_args()
    from test_train import LIGHT, arguments  # not above, where each run would import it, too

    random = np.random.default_rng(flags.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = (pathlib.Path(folder, name) for name in ("whole", "killed"))
        environment = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
        changes = LIGHT | {
            "steps": flags.kills * flags.steps + 2 * EVERY,
            "checkpoint__every": EVERY,
            "network__encoder__layers": "(1,)",
        }

        def start(workdir):
            output = workdir.with_suffix(".txt")
            return killing.start(arguments("simclr", workdir, **changes), environment, output), output

        killing.finish(*start(whole))
        writing = 0
        for number in range(flags.kills):
            moment = killing.MOMENTS[number % len(killing.MOMENTS)]
            process, output = start(killed)
            wrote = killing.kill(process, killed, moment, random, output, within=flags.steps)
            writing += wrote
            said = ", a checkpoint was being written" * wrote
            print(f"kill {number + 1}, {moment}: saved until step {killing.saved(killed)}{said}", flush=True)
        killing.finish(*start(killed))
        killing.assert_same(whole, killed)
    print(f"{flags.kills} kills, {writing} of them while a checkpoint was written; the end is the same to the bit")


if __name__ == "__main__":
    main()
