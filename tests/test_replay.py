"""A number that is not finite is traced to the operation that made it, also in a run that has diverged."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_train import LIGHT, train

from ssl_jax import replay
from ssl_jax.errors import UserError
from ssl_jax.monitor import NONFINITE
from ssl_jax.nonfinite import find
from ssl_jax.parallel import MeshSizes


def scanned(x):
    """The logarithm of the third iteration is that of 0."""
    return jax.lax.scan(lambda carry, row: (carry + jnp.log(row), row), jnp.float32(0), x)[0]


def masked(x):
    """Hides what is not finite, then makes a NaN of its own."""
    hidden = jnp.where(x > 0, jnp.log(x), -jnp.inf)
    return jnp.exp(hidden).sum() + jnp.sqrt(x.sum() - 100)


@pytest.mark.parametrize(
    ("program", "x", "name"),
    [
        (lambda x: (x * x).sum(), [1, 1e30], "mul"),
        (jax.grad(lambda x: jnp.sqrt(x).sum()), [1, 0], "div"),
        (jax.jit(jax.checkpoint(scanned)), [1, 2, 0, 3], "log"),
        (masked, [1, 0, 2], "sqrt"),
    ],
    ids=["overflow", "gradient", "scan", "mask"],
)
def test_the_first_operation_that_matters_is_found(program, x, name):
    found = find(program, jnp.asarray(x, jnp.float32))
    assert found.first.name == name
    assert "test_replay.py:" in found.first.line
    assert np.isfinite(found.first.inputs)
    assert not np.all(np.isfinite(found.largest))


def test_finite_results_have_no_culprit():
    found = find(lambda x: jnp.where(x > 0, jnp.log(x), 0).sum(), jnp.asarray([1.0, 0.0]))
    assert (found.first, found.nan, found.largest) == (None, None, 0)


@pytest.mark.parametrize(
    ("sizes", "had", "here", "found"),
    [
        (dict(fsdp=2, model=2), 8, 8, (1, 2, 2, 2)),
        (dict(fsdp=2), 4, 8, (1, 2, 2, 1)),  # only as many as the run had
        (dict(dcn=2, model=4), 256, 8, (1, 1, 8, 1)),
        (dict(model=2), 24, 8, (1, 1, 6, 1)),  # 12 shares of a batch
    ],
)
def test_fewer_devices_than_the_run_had_share_its_state(sizes, had, here, found, monkeypatch):
    devices = jax.devices()[:here]
    monkeypatch.setattr(jax, "devices", lambda: devices)
    assert tuple(replay.mesh_like(MeshSizes(**sizes), had).shape.values()) == found


def test_a_run_that_diverged_is_replayed_on_fewer_devices(tmp_path, capsys, monkeypatch):
    changes = LIGHT | dict(optimizer__learning_rate=1e20, optimizer__name="sgd", network__encoder__layers="(1,)")
    with pytest.raises(UserError, match=r"diverged at step 2.*ssl_jax\.replay"):
        train("simclr", tmp_path, checkpoint__every=1, mesh__fsdp=8, **changes)
    assert json.loads((tmp_path / "nonfinite.json").read_text()).items() >= {"step": 2, "seed": 0}.items()
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    few = jax.devices()[:3]
    monkeypatch.setattr(jax, "devices", lambda: few)
    monkeypatch.chdir(tmp_path)
    replay.main(replay.parser().parse(["--workdir=."]))
    said = capsys.readouterr().out
    assert "replays from step 1\nwarning: the run had 8 devices, here 2 replay, so sums round differently\n" in said
    assert "\nstep 2 is the first that is not finite\nseed 0; learning rate 6.25e+18" in said
    # The variance of batches overflows.
    assert re.search(
        r"first operation: square at \S+/norm\.py:\d+ \(Norm\.batch_moments\), in Network/encoder/stem_norm1;", said
    )
    assert re.search(r"norms of gradients: \d+ of \d+ not finite: network/encoder/", said)
    assert sorted(tmp_path.rglob("*")) == before  # it only reads


def test_a_run_without_such_a_step_has_nothing_to_replay(tmp_path):
    with pytest.raises(UserError, match=r"there is no folder .*none; name the workdir of a run"):
        replay.main(replay.parser().parse([f"--workdir={tmp_path / 'none'}"]))
    line = replay.parser().parse([f"--workdir={tmp_path}"])
    with pytest.raises(UserError, match=r"there is nothing to replay in .* leaves its config.json"):
        replay.main(line)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"there is nothing to replay in .*: all steps of the run so far are finite"):
        replay.main(line)
    (tmp_path / NONFINITE).write_text("{}")
    with pytest.raises(UserError, match=r"there is nothing to replay in .* leaves .* there \('step'\)"):
        replay.main(line)
