"""Scores equal their definition, and the card's figures follow from its classes."""

import numpy as np
import pytest

from flair_bench.measure.scores import PUBLISHED_IOU, confusion, mean_over, scores
from flair_export.cards import ACTIVE_12, ACTIVE_15


def oracle(truth, labels, active):
    """The official averages, pixel by pixel as their definition says."""
    counted = [(t, w) for t, w in zip(truth, labels, strict=True) if t in active and w in active]
    hits = sum(t == w for t, w in counted)
    ious, fs = [], []
    for value in active:
        both = sum(t == w == value for t, w in counted)
        either = sum(value in pair for pair in counted)
        sums = sum(t == value for t, _ in counted) + sum(w == value for _, w in counted)
        ious.append(both / either if either else 0)
        fs.append(2 * both / sums if sums else 0)
    return 100 * hits / len(counted), 100 * np.mean(ious), 100 * np.mean(fs)


@pytest.mark.parametrize("active", [ACTIVE_12, ACTIVE_15])
@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_their_definition(active, seed):
    random = np.random.default_rng(seed)
    truth = random.integers(1, 20, 800).astype(np.uint8)
    truth[truth == 14] = 13  # no snow, as in the test set
    labels = np.where(random.random(800) < 0.5, truth, random.integers(1, 20, 800)).astype(np.uint8)
    found = scores(confusion(truth, labels), active)
    expected = oracle(truth.tolist(), labels.tolist(), active)
    assert (found.oa, found.official.iou, found.official.f) == pytest.approx(expected)
    assert found.predicted_inactive == pytest.approx(100 * np.mean(~np.isin(labels, active)))
    assert found.masked_inactive == pytest.approx(100 * np.mean(~np.isin(truth, active)))


def test_the_cards_fourteen_ious_give_both_published_means():
    assert mean_over(PUBLISHED_IOU, ACTIVE_15) == pytest.approx(54.7168, abs=5e-5)
    without_snow = [value for value in ACTIVE_15 if value != 14]
    assert mean_over(PUBLISHED_IOU, without_snow) == pytest.approx(58.625, abs=5e-4)


def test_the_official_averages_do_not_see_inactive_classes():
    matrix = np.eye(19, dtype=np.int64) * 10
    matrix[13] = 0  # no snow
    matrix[0, 14] = 1_000  # labelled clear cut, an inactive class
    found = scores(matrix, ACTIVE_15)
    assert found.official.iou == pytest.approx(100 * 14 / 15)
    assert found.without_snow.iou == found.oa == 100
    assert found.predicted_inactive > 80
