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


MADE = {  # args that say how the arrays were made: seeds, and sizes that the arrays show
    *("seed", "source_image", "rank", "steps", "classes", "H", "W", "hw", "shape", "grid", "img_other", "divisor"),
    *("n", "n_global", "n_train", "n_test", "n_high", "n_low", "N", "B", "B_global", "K", "batch", "queue", "rows"),
    *("dim", "din", "in_dim", "feat_dim", "s_dim", "t_dim", "views", "channels", "stem_chs"),
}
TWICE = {  # args and the arrays that hold the same under another name
    **{"T": "temperature", "m": "momentum", "lrs": "lr", "wds": "wd"},
    **{"box": "box_top_left_height_width", "radius": "pil_radius"},
}


class Reads(dict):
    """The args or the arrays of a case; remembers which ones the adapter looked at."""

    def __init__(self, items):
        super().__init__(items)
        self.read = set()

    def __getitem__(self, name):
        self.read.add(name)
        return super().__getitem__(name)

    def __contains__(self, name):
        self.read.add(name)
        return super().__contains__(name)

    def get(self, name, default=None):
        self.read.add(name)
        return super().get(name, default)


def lookup(table, name):
    return next((value for pattern, value in table.items() if fnmatch.fnmatch(name, pattern)), None)


def load(case, directory) -> dict:
    with np.load(pathlib.Path(directory) / case["file"]) as file:
        return {name: file[name] for name in file.files}


def check(case, arrays):
    """Asserts that our numbers for a case are the original's, and that none of its args and arrays was overlooked."""
    adapter = adapters.load()[case["kind"]]
    args, arrays = Reads(case["args"]), Reads(arrays)
    with jax.enable_x64(True):
        ours = adapter.compute(args, arrays)
    assert ours, "the adapter returned nothing to compare"
    for name, value in ours.items():
        assert name in dict(arrays), f"the case has no array {name}"
        compare(case, adapter, name, value, dict(arrays)[name])
    for arg, value in case["args"].items():
        for name in {arg, TWICE.get(arg, arg)} & set(arrays):  # the case says it twice: either may be read
            np.testing.assert_allclose(dict(arrays)[name], value, err_msg=f"{arg} differs from the array {name}")
            if arg in args.read or name in arrays.read:
                args.read.add(arg), arrays.read.add(name)
    left = {"arrays": set(arrays) - set(ours) - arrays.read, "args": set(args) - args.read - MADE}
    left = {what: [name for name in names if lookup(adapter.ignored, name) is None] for what, names in left.items()}
    assert not any(left.values()), f"the adapter neither reads nor compares {left}"


def compare(case, adapter, name, ours, theirs):
    """Asserts that ours are theirs, within what the adapter states or else within the precision of the case."""
    ours, within = ours if isinstance(ours, adapters.Near) else (ours, 0.0)
    ours, (tolerance, _) = np.asarray(ours), lookup(adapter.deviates, name) or (precision(case, theirs), "")
    assert ours.shape == theirs.shape, name
    theirs = theirs.astype(float)
    allowed = within + tolerance * (np.abs(theirs) + max(np.abs(theirs).max(initial=0.0), 1e-30))
    excess = np.abs(ours.astype(float) - theirs) - allowed
    np.testing.assert_array_less(excess, 0, err_msg=f"{name}: how much they differ beyond what is allowed")


def test_golden(case, request):
    check(case, load(case, request.config.getoption("--golden")))


def precision(case, array) -> float:
    """1e-9 relative where the original ran in float64 and stored it so, 1e-5 where float32 is in between."""
    return 1e-9 if array.dtype == np.float64 and "float64" in case["precision"] else 1e-5
