"""Agreement of partitions: what must hold for any definition, beside the golden values."""

import numpy as np
import pytest

from ssl_jax.evaluate.clusters import agreement


def test_a_partition_agrees_with_itself_under_any_names():
    labels = np.random.default_rng(0).integers(0, 5, 100)
    result = agreement(labels, 7 * labels[...] + 3)
    np.testing.assert_allclose(
        [result.pop("mutual_information")], [-np.sum((p := np.bincount(labels) / 100) * np.log(p))]
    )
    np.testing.assert_allclose(list(result.values()), 1)


def test_one_cluster_says_nothing():
    result = agreement(np.arange(100) % 5, np.zeros(100, int))
    assert result["completeness"] == 1
    for name in ("mutual_information", "homogeneity", "v_measure", "ami", "ari"):
        assert result[name] == pytest.approx(0, abs=1e-9)


def test_chance_is_corrected():
    rng = np.random.default_rng(0)
    results = [agreement(rng.integers(0, 10, 60), rng.integers(0, 10, 60)) for _ in range(200)]
    mean = {name: np.mean([result[name] for result in results]) for name in results[0]}
    assert mean["v_measure"] > 0.2
    assert abs(mean["ami"]) < 0.01
    assert abs(mean["ari"]) < 0.01
