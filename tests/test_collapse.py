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
# The unchanged recipe for the embedded images, but shorter.
SHORT = ["steps=200", "log.every=5", "evaluate.every=0", "evaluate.bank=64", "evaluate.test=64", "checkpoint.every=0"]
SHORT += ["optimizer.warmup=20", "optimizer.schedule=constant"]


@pytest.mark.slow
@pytest.mark.parametrize("name", COLLAPSES)
def test_the_run_names_the_collapse(name, tmp_path):
    changes, sign = COLLAPSES[name]
    line = [sys.executable, "-m", "ssl_jax.main", f"--config={ROOT / 'configs' / name}.py", f"--workdir={tmp_path}"]
    line += [f"--config.{change}" for change in SHORT + changes]
    environment = os.environ | {"XLA_FLAGS": ""}  # one device: the recipe's own size takes its time
    done = subprocess.run(line, cwd=ROOT, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    said = [text for text in done.stdout.splitlines() if "possible collapse" in text]
    assert any(sign in text for text in said), done.stdout
