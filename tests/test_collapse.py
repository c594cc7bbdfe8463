"""The collapses that papers report can be caused by one override, and the run warns of them."""

import os
import subprocess
import sys

import pytest
from test_methods import ROOT

COLLAPSES = {
    "simsiam": (["method.stop_gradient=false"], "projection_crowding"),
    "byol": (["network.projector.norm=none", "network.predictor.norm=none"], "projection_crowding"),
    "swav": (["method.iterations=0"], "marginal_entropy"),
}
# The recipe for the embedded images, but shorter and smaller.
SHORT = ["steps=100", "log.every=5", "evaluate.every=0", "evaluate.bank=64", "evaluate.test=64", "checkpoint.every=0"]
SHORT += ["optimizer.warmup=20", "optimizer.schedule=constant", "batch_size=64", "data.size=16"]


def warnings(name, changes, workdir):
    """Returns the warnings of collapse of a run on one device."""
    line = [sys.executable, "-m", "ssl_jax.main", f"--config={ROOT / 'configs' / name}.py", f"--workdir={workdir}"]
    line += [f"--config.{change}" for change in SHORT + changes]
    environment = os.environ | {"XLA_FLAGS": ""}  # one device, and programs worth optimising
    done = subprocess.run(line, cwd=ROOT, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return [text for text in done.stdout.splitlines() if "possible collapse" in text]


@pytest.mark.slow
@pytest.mark.parametrize("name", COLLAPSES)
def test_the_run_names_the_collapse(name, tmp_path):
    changes, sign = COLLAPSES[name]
    assert any(sign in text for text in warnings(name, changes, tmp_path))
