"""Measures of how well a clustering agrees with the classes."""

import numpy as np


def agreement(labels: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    """Compares two partitions of N items; all measures but the first are 1 if the partitions are equal.

    Args:
        labels: integers [N], the classes.
        clusters: integers [N], the clusters; their numbering does not matter.

    Returns:
        `mutual_information` in nats; `homogeneity` and `completeness`, the fractions of the entropy of the labels and
        of the clusters that it explains; `v_measure`, their harmonic mean, which is NMI with the arithmetic mean;
        `nmi_geometric`; and `ami` and `ari`, whose expectation for random partitions is 0.

    Source: Vinh et al. 2010, "Information theoretic measures for clusterings comparison", JMLR 11, sections 2 and 4.
    """
    pairs = np.zeros((len(np.unique(labels)), len(np.unique(clusters))), int)
    np.add.at(pairs, (np.unique(labels, return_inverse=True)[1], np.unique(clusters, return_inverse=True)[1]), 1)
    rows, columns = pairs.sum(1), pairs.sum(0)
    first, second, joint = entropy(rows), entropy(columns), entropy(pairs[pairs > 0])
    information = first + second - joint
    mean = (first + second) / 2
    expected = expected_information(rows, columns)
    return {
        "mutual_information": information,
        "homogeneity": ratio(information, first),
        "completeness": ratio(information, second),
        "v_measure": ratio(information, mean),
        "nmi_geometric": ratio(information, np.sqrt(first * second)),
        "ami": ratio(information - expected, mean - expected),
        "ari": adjusted_rand(pairs),
    }


def ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 1.0  # without entropy, all of it is explained


def entropy(counts: np.ndarray) -> float:
    p = counts / counts.sum()
    return float(-np.sum(p * np.log(p)))


def adjusted_rand(pairs: np.ndarray) -> float:
    together, first, second, all_pairs = (
        float(np.sum(counts * (counts - 1) // 2)) for counts in (pairs, pairs.sum(1), pairs.sum(0), pairs.sum())
    )
    chance = first * second / all_pairs
    return ratio(together - chance, (first + second) / 2 - chance)


def expected_information(rows: np.ndarray, columns: np.ndarray) -> float:
    """Returns the expected mutual information of random partitions of these sizes (Vinh et al., equation 24a)."""
    n = rows.sum()
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    total = 0.0
    for a in rows:
        for b in columns:
            both = np.arange(max(1, a + b - n), min(a, b) + 1)
            chosen = log_factorial[[a, b, n - a, n - b]].sum() - log_factorial[n]
            rest = (both, a - both, b - both, n - a - b + both)
            probability = np.exp(chosen - sum(log_factorial[count] for count in rest))
            total += np.sum(both / n * np.log(n * both / (a * b)) * probability)
    return float(total)
