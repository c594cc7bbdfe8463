"""Boxes that were found against those that are there: overlap, suppression of duplicates, average precision."""

from typing import NamedTuple

import numpy as np


class Matched(NamedTuple):
    """The boxes that were found in all images, and which of them are right."""

    score: np.ndarray  # [D]
    label: np.ndarray  # int [D]
    image: np.ndarray  # int [D]
    hit: np.ndarray  # bool [D]
    counts: np.ndarray  # int [N, K], boxes of each class that are in each image


def overlaps(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Returns the intersection over union [N, M] of boxes [N, 4] and [M, 4], (left, top, right, bottom) in any unit."""
    corner = np.maximum(ours[:, None, :2], theirs[None, :, :2])
    other = np.minimum(ours[:, None, 2:4], theirs[None, :, 2:4])
    shared = np.prod(np.maximum(other - corner, 0), axis=-1)
    areas = [np.prod(boxes[:, 2:4] - boxes[:, :2], axis=-1) for boxes in (ours, theirs)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None, :] - shared, 1e-12)


def suppress(found: np.ndarray, limit: float) -> np.ndarray:
    """Returns the boxes of one image without duplicates: those that overlap a better one of their class.

    Args:
        found: [n, 6], (left, top, right, bottom, class, score).
        limit: intersection over union of two boxes from which on they are duplicates.

    Returns:
        [m, 6] in the order of falling scores.
    """
    found = found[np.argsort(-found[:, 5], kind="stable")]
    clash = (overlaps(found, found) > limit) & (found[:, None, 4] == found[None, :, 4])
    kept = np.ones(len(found), bool)
    for i in range(len(found)):
        if kept[i]:
            kept[i + 1 :] &= ~clash[i, i + 1 :]
    return found[kept]


def hits(found: np.ndarray, truth: np.ndarray, threshold: float) -> np.ndarray:
    """Returns which boxes of one image are right, bool [n].

    By falling score, each takes the box of its class that it overlaps most of those that are still free.

    Args:
        found: [n, 6], as in `suppress`.
        truth: [m, 5], (left, top, right, bottom, class).
        threshold: the least intersection over union.
    """
    overlap = np.where(found[:, None, 4] == truth[None, :, 4], overlaps(found, truth), 0.0)
    hit = np.zeros(len(found), bool)
    for i in np.argsort(-found[:, 5], kind="stable") if len(truth) else ():
        best = np.argmax(overlap[i])
        if overlap[i, best] >= threshold:
            hit[i] = True
            overlap[:, best] = -1  # it is taken
    return hit


def match(found: list[np.ndarray], truth: list[np.ndarray], classes: int, threshold: float = 0.5) -> Matched:
    """Compares the boxes found in each image [n, 6] with those that are there [m, 5], see `hits`."""
    flat = np.concatenate(found)
    image = np.repeat(np.arange(len(found)), [len(one) for one in found])
    hit = np.concatenate([hits(ours, theirs, threshold) for ours, theirs in zip(found, truth, strict=True)])
    counts = np.stack([np.bincount(boxes[:, 4].astype(int), minlength=classes) for boxes in truth])
    return Matched(flat[:, 5], flat[:, 4].astype(int), image, hit, counts)


def average_precisions(matched: Matched, weight: np.ndarray | None = None) -> np.ndarray:
    """Returns the average precision of each class, [K], nan for classes without boxes.

    It is the area under the curve of precision over recall, where precision at a recall is the best one at that recall
    or a higher one.

    Args:
        matched: the boxes.
        weight: how often each image counts, [N]; None: once.

    Source: Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge", with all points, as since 2010.
    """
    weight = np.ones(len(matched.counts)) if weight is None else weight
    total = weight @ matched.counts
    order = np.argsort(-matched.score, kind="stable")
    area = np.zeros(len(total))
    for label in range(len(total)):
        rows = order[matched.label[order] == label]
        each = weight[matched.image[rows]]
        right = each * matched.hit[rows]
        precision = np.cumsum(right) / np.maximum(np.cumsum(each), 1e-12)
        area[label] = np.maximum.accumulate(precision[::-1])[::-1] @ right
    return np.divide(area, total, out=np.full(len(total), np.nan), where=total > 0)
