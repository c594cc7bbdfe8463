"""A number that is not finite is traced to the operation that made it, also in a run that has diverged."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_methods import BARE
from test_train import train

from ssl_jax import replay
from ssl_jax.errors import UserError
from ssl_jax.nonfinite import find


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


def test_a_run_that_diverged_is_replayed(tmp_path, capsys):
    changes = {key.replace(".", "__"): value for key, value in BARE.items()}
    changes |= dict(optimizer__learning_rate=1e20, optimizer__name="sgd", evaluate__labels="ignored")
    with pytest.raises(UserError, match=r"diverged at step 2.*ssl_jax\.replay"):
        train("simclr", tmp_path, checkpoint__every=1, **changes)
    record = json.loads((tmp_path / "nonfinite.json").read_text())
    assert record["seed"] == 0
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    replay.main(replay.parser().parse([f"--workdir={tmp_path}"]))
    said = capsys.readouterr().out
    assert f"step {record['step']} of" in said
    assert "first operation" in said
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == kept
    with capsys.disabled():
        print(said)


def test_a_run_without_such_a_step_has_nothing_to_replay(tmp_path):
    with pytest.raises(UserError, match="there is nothing to replay in"):
        replay.main(replay.parser().parse([f"--workdir={tmp_path}"]))
