"""The collapses that papers report are one override away, and the run names them."""

import pytest
from test_methods import ROOT

from ssl_jax import main

COLLAPSES = {
    "simsiam": (["method.stop_gradient=false"], "projection_std"),
    "byol": (["network.projector.norm=none", "network.predictor.norm=none"], "projection_std"),
    "swav": (["method.iterations=0"], "cluster_entropy"),
}
# The recipe for the embedded images as it is, but short.
SHORT = ["steps=250", "evaluate.every=0", "evaluate.bank=64", "evaluate.test=64", "checkpoint.every=0"]
SHORT += ["optimizer.warmup=20", "optimizer.schedule=constant"]


@pytest.mark.slow
@pytest.mark.parametrize("name", COLLAPSES)
def test_the_run_names_the_collapse(name, tmp_path, capsys):
    changes, sign = COLLAPSES[name]
    line = [f"--config={ROOT / 'configs' / name}.py", f"--workdir={tmp_path}"]
    main.main(main.parser().parse(line + [f"--config.{change}" for change in SHORT + changes]))
    said = [text for text in capsys.readouterr().out.splitlines() if "possible collapse" in text]
    assert any(sign in text for text in said), said
