"""Scores as the FLAIR benchmark computes them, from one confusion matrix.

A confusion matrix is int64 [19, 19]: row v - 1 counts pixels whose mask says class v, column w - 1
those labelled w. The official tool deletes rows and columns of classes of zero training weight,
takes IoU, precision, recall and F of each class left (0 where undefined) and their plain means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flair_bench.figures import Averages
from flair_export.cards import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SNOW = 14
"""The class that does not occur in the test set; later model cards leave it out of the means."""

PUBLISHED_IOU = {
    1: 82.6313,
    2: 53.2351,
    3: 74.1742,
    4: 60.3958,
    5: 87.5887,
    6: 46.3504,
    7: 67.4473,
    8: 30.2346,
    9: 82.9251,
    10: 55.0283,
    11: 52.0145,
    12: 40.8387,
    13: 48.4433,
    18: 39.4447,
}
"""IoU by class value, percent: the card of IGNF/FLAIR-INC_rgbie_15cl_resnet34-unet."""
PUBLISHED_OA = 76.3711
PUBLISHED_MIOU = 54.7168
"""Mean over 15 classes, snow counted as 0, percent: the same card."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """What a confusion matrix says of the active classes."""

    oa: float
    """Share of equal labels among pixels of active classes, percent."""
    iou: Mapping[int, float]
    """By class value, percent."""
    f: Mapping[int, float]
    precision: Mapping[int, float]
    recall: Mapping[int, float]
    pixels: Mapping[int, int]
    """Mask pixels by class value."""
    official: Averages
    """Over every active class."""
    without_snow: Averages
    """Over the active classes but snow: the later convention."""
    predicted_inactive: float
    """Share of labels that are inactive classes, percent; the official averages do not see it."""
    masked_inactive: float
    """Share of mask pixels that are inactive classes, percent; left out of every score."""


def confusion(truth: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return int64 [19, 19] of two arrays of one shape with values 1..19."""
    pairs = (truth.ravel().astype(np.intp) - 1) * CHANNELS + (labels.ravel().astype(np.intp) - 1)
    return np.bincount(pairs, minlength=CHANNELS**2).reshape(CHANNELS, CHANNELS)


def scores(matrix: np.ndarray, active: Sequence[int]) -> Scores:
    """Score a confusion matrix over the `active` class values, in ascending order."""
    kept = np.array(active) - 1
    reduced = matrix[np.ix_(kept, kept)].astype(np.float64)
    hit, truth, found = np.diag(reduced), reduced.sum(1), reduced.sum(0)
    iou = _percent(hit, truth + found - hit)
    precision, recall = _percent(hit, found), _percent(hit, truth)
    f = _percent(2 * precision * recall / 100, precision + recall)
    per_class = [
        dict(zip(active, values.tolist(), strict=True)) for values in (iou, f, precision, recall)
    ]
    total = matrix.sum()
    return Scores(
        oa=float(100 * hit.sum() / reduced.sum()) if reduced.sum() else 0.0,
        iou=per_class[0],
        f=per_class[1],
        precision=per_class[2],
        recall=per_class[3],
        pixels={value: int(matrix[value - 1].sum()) for value in active},
        official=_averages(per_class, active),
        without_snow=_averages(per_class, [value for value in active if value != SNOW]),
        predicted_inactive=float(100 * (1 - matrix[:, kept].sum() / total)) if total else 0.0,
        masked_inactive=float(100 * (1 - matrix[kept].sum() / total)) if total else 0.0,
    )


def mean_over(values: Mapping[int, float], classes: Iterable[int]) -> float:
    """Return the plain mean over `classes`; one that `values` does not have counts 0."""
    return float(np.mean([values.get(value, 0.0) for value in classes]))


def _averages(per_class: Sequence[Mapping[int, float]], classes: Sequence[int]) -> Averages:
    iou, f, precision, recall = (mean_over(values, classes) for values in per_class)
    return Averages(classes=len(classes), iou=iou, f=f, precision=precision, recall=recall)


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return 100 * part / whole, 0 where the whole is 0."""
    shares: np.ndarray = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    return 100 * shares
