"""Memory that a program frees stays for its next step, and the numbers stay the same."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, resource, sys
import jax, jax.numpy as jnp
from ssl_jax import parallel

if sys.argv[1] == "keep":
    parallel.keep_freed_memory()
step = jax.jit(lambda x: jnp.sin(x @ x.T) @ x)
x = jax.random.normal(jax.random.key(0), (4096, 64))
for i in range(20):
    if i == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    y = step(x).block_until_ready()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(json.dumps({"faults": faults, "sum": float(jnp.abs(y).sum())}))
"""


def run(mode):
    out = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True).stdout
    return json.loads(out)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_steps_no_longer_ask_for_fresh_pages():
    default, kept = run("default"), run("keep")
    assert kept["sum"] == default["sum"]
    assert kept["faults"] < default["faults"] / 3, (kept, default)
