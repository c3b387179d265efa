"""Ratios to GDAL are taken round by round."""

from flair_bench.figures import GdalRatio


def test_gdals_ratio_is_taken_within_a_round():
    ratio = GdalRatio.of([1.0, 4.0, 3.0], [2.0, 2.0, 3.0])
    assert ratio.median == 1
    assert ratio.spread == (0.5, 2)
