"""Our numbers beside those of the original authors' code: `pytest tests/test_golden.py --golden=DIR`."""

import fnmatch
import functools
import json
import pathlib

import adapters
import jax
import numpy as np
import pytest


@functools.cache
def cases(directory: str) -> list[dict]:
    return json.loads((pathlib.Path(directory) / "manifest.json").read_text())["cases"]


def coverage(directory: str) -> str:
    """One line that counts the kinds with an adapter and names those without."""
    kinds = {case["kind"] for case in cases(directory)}
    missing = sorted(kinds - set(adapters.load()))
    names = f"; not covered ({len(missing)}): {', '.join(missing)}" if missing else ""
    return f"golden: {len(kinds) - len(missing)} of {len(kinds)} kinds covered{names}"


def pytest_generate_tests(metafunc):
    directory = metafunc.config.getoption("--golden")
    table = adapters.load()
    params = []
    for case in cases(directory):
        uncovered = pytest.mark.xfail(run=False, reason=f"kind {case['kind']} has no adapter yet")
        params.append(pytest.param(case, id=case["id"], marks=[] if case["kind"] in table else [uncovered]))
    metafunc.parametrize("case", params)


class Reads(dict):
    """The arrays of a case; remembers which ones the adapter looked at."""

    def __init__(self, arrays):
        super().__init__(arrays)
        self.read = set()

    def __getitem__(self, name):
        self.read.add(name)
        return super().__getitem__(name)


def lookup(table, name):
    return next((value for pattern, value in table.items() if fnmatch.fnmatch(name, pattern)), None)


def test_golden(case, request):
    adapter = adapters.load()[case["kind"]]
    with np.load(pathlib.Path(request.config.getoption("--golden")) / case["file"]) as file:
        arrays = Reads({name: file[name] for name in file.files})
    with jax.enable_x64(True):
        ours = {name: np.asarray(value) for name, value in adapter.compute(case["args"], arrays).items()}
    assert ours, "the adapter returned nothing to compare"
    for name, value in ours.items():
        theirs = arrays.get(name)
        assert theirs is not None, f"the case has no array {name}"
        assert value.shape == theirs.shape, name
        tolerance, _ = lookup(adapter.deviates, name) or (precision(case, theirs), "")
        scale = np.abs(theirs).max(initial=0.0)
        np.testing.assert_allclose(value, theirs, rtol=tolerance, atol=tolerance * max(scale, 1e-30), err_msg=name)
    forgotten = {name for name in set(arrays) - set(ours) - arrays.read if lookup(adapter.ignored, name) is None}
    assert not forgotten, f"arrays neither read nor compared: {sorted(forgotten)}"


def precision(case, array) -> float:
    """1e-9 relative where the original ran in float64 and stored it so, 1e-5 where float32 is in between."""
    return 1e-9 if array.dtype == np.float64 and "float64" in case["precision"] else 1e-5
