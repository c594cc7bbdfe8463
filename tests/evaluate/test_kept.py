"""The baselines of a run are measured once, and again if something else is measured."""

import types

from ml_collections import ConfigDict

from ssl_jax import parallel
from ssl_jax.evaluate import kept


class Counting:
    """In place of an evaluator: says how often it measured."""

    def __init__(self, **settings):
        self.run = types.SimpleNamespace(config=ConfigDict({"evaluate": settings}))
        self.mesh, self.count = parallel.make_mesh(), 0

    def baselines(self, state):
        self.count += 1
        return {"raw_knn_top1": float(self.count)}


def test_baselines_are_measured_once(tmp_path):
    evaluator = Counting(bank=100, sizes=(16, 28))
    assert kept.known(evaluator, tmp_path) == {}
    assert [kept.baselines(evaluator, None, tmp_path) for _ in range(2)] == [{"raw_knn_top1": 1.0}] * 2
    assert evaluator.count == 1 and kept.known(evaluator, tmp_path) == {"raw_knn_top1": 1.0}
    for damaged in ("{", "[]", "{}"):
        (tmp_path / kept.FILE).write_text(damaged)
        kept.baselines(evaluator, None, tmp_path)
    assert evaluator.count == 4
    other = Counting(bank=200, sizes=(16, 28))
    kept.baselines(other, None, tmp_path)
    assert other.count == 1
