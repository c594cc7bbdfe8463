"""The environment of a run is plain data."""

import json
import platform

import jax

from ssl_jax.monitor import environment


def test_it_is_json_and_names_what_the_run_ran_on():
    found = environment.environment()
    assert json.loads(json.dumps(found)) == found
    assert found["packages"]["jax"] == jax.__version__
    assert found["python"] == platform.python_version()
    assert found["devices"] == "8 x cpu"


def test_without_git(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.commit() is None
