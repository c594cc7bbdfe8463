"""A teacher is the encoder of the run in a workdir; a workdir without one is an error that says why."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from test_methods import ROOT

from ssl_jax import augment
from ssl_jax.checkpoint import SEAL
from ssl_jax.config import load
from ssl_jax.errors import UserError
from ssl_jax.method import encode
from ssl_jax.pretrained import open_teacher

TINY = [("network.encoder.width", "0.0625")]
LAB = augment.SPACES["lab"]


@pytest.fixture
def config():
    return load(str(ROOT / "configs" / "byol.py"), TINY)


def test_it_sees_what_it_was_trained_on_whatever_the_student_s_colours(tmp_path, config, monkeypatch):
    variables = toy.write_run(tmp_path, config)
    monkeypatch.chdir(tmp_path.parent)
    teacher = open_teacher(tmp_path.name, LAB)
    assert set(teacher.variables.params) == set(teacher.variables.stats) == {"encoder"}
    jax.tree.map(np.testing.assert_array_equal, teacher.variables.params["encoder"], variables.params["encoder"])
    pixels = np.random.default_rng(0).uniform(size=(4, 16, 16, 3)).astype(np.float32)
    theirs = (pixels - np.float32(config.augment.mean)) / np.float32(config.augment.std)
    ours = augment.join(augment.normalize(LAB.from_rgb(augment.split(jnp.asarray(pixels))), LAB.mean, LAB.std))
    expected = encode(teacher.network, variables, theirs)
    np.testing.assert_allclose(teacher.features(teacher.variables, ours), expected, rtol=1e-3, atol=1e-4)


def test_of_a_method_that_evaluates_its_moving_average_it_is_that_average(tmp_path):
    variables = toy.write_run(tmp_path, load(str(ROOT / "configs" / "dino.py"), TINY))
    found = open_teacher(str(tmp_path), LAB).variables
    assert set(found.params) == set(found.stats) == {"encoder"}
    jax.tree.map(
        lambda x, y: np.testing.assert_array_equal(x, y + 1), found.params["encoder"], variables.params["encoder"]
    )


def test_a_run_of_several_encoders_is_refused(tmp_path):
    toy.write_run(tmp_path, load(str(ROOT / "configs" / "byol.py"), TINY), nest=lambda tree: (tree, tree))
    with pytest.raises(UserError, match="trains no single encoder"):
        _ = open_teacher(str(tmp_path), LAB).variables


def test_runs_that_teach_nothing_are_explained(tmp_path, config):
    def complaint(workdir):
        with pytest.raises(UserError) as caught:
            open_teacher(workdir, LAB)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert complaint("").startswith("this method learns from a teacher; set method.teacher to the workdir")
    assert "there is no run in 'runs/nowhere'" in complaint("runs/nowhere")
    toy.write_run(tmp_path, config)
    (tmp_path / "checkpoints" / "3" / SEAL).unlink()
    assert "has no whole checkpoint, only damaged or unfinished ones; train it first" in complaint(str(tmp_path))
    (tmp_path / "config.json").write_text('{"seed": 0, ')
    assert "config.json cannot be read" in complaint(str(tmp_path))
